package failover

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Where the register keeps what the parts of a failover tell each other. Hosts, instances, suspects and closed go away with the
// session of whoever wrote them.
const (
	hostsPrefix     = "hosts/"     // hosts/<node>: Host, by its agent
	deadPrefix      = "dead/"      // dead/<shard>/<start id>: Death, by the agent, created once
	instancesPrefix = "instances/" // instances/<name>: by that instance
	closedPrefix    = "closed/"    // closed/<shard>/<epoch>/<instance>: nothing of an older epoch is sent by it any more
	suspectsPrefix  = "suspects/"  // suspects/<shard>/<epoch>/<instance>: it cannot reach the primary
	journalPrefix   = "failovers/" // failovers/<shard>/<epoch>: Journal, by the controller
	ordersPrefix    = "orders/"    // orders/<shard>: Order, by people; removed by whoever carries it out
	leaderName      = "controller" // of the election
)

// Host is what an agent says of its node.
type Host struct {
	Shard   int    `json:"shard"`
	Address string `json:"address"`
	Zone    string `json:"zone,omitempty"`
	StartID string `json:"start_id"` // empty: the database does not run
	BootID  string `json:"boot_id"`  // of the operating system: another one means that unsynced files may be gone
	Doing   string `json:"doing"`    // for people: running, waiting for an order, rebuilding …
	Free    uint64 `json:"free_bytes"`

	Unfit   string      `json:"unfit,omitempty"`  // why the database cannot be started with the data that it has
	Backup  string      `json:"backup,omitempty"` // host:port at which the agent gives copies; empty: it neither gives nor takes any
	Rebuild HostRebuild `json:"rebuild,omitzero"`
	At      time.Time   `json:"at"`
}

// HostRebuild is what an agent says of the rebuild that it was ordered to do last.
type HostRebuild struct {
	ID    string `json:"id"`
	Done  bool   `json:"done,omitempty"`
	Error string `json:"error,omitempty"` // why it was given up; it is not tried again under this id
}

// Death is what an agent says of a database process that has ended.
type Death struct {
	Node string    `json:"node"`
	How  string    `json:"how"` // signal or exit code
	At   time.Time `json:"at"`
}

func hostKey(node string) string { return hostsPrefix + node }

func deadKey(number int, startID string) string {
	return fmt.Sprintf("%s%d/%s", deadPrefix, number, startID)
}

func closedKeyPrefix(number int, epoch uint64) string {
	return fmt.Sprintf("%s%d/%d/", closedPrefix, number, epoch)
}

func suspectsKeyPrefix(number int, epoch uint64) string {
	return fmt.Sprintf("%s%d/%d/", suspectsPrefix, number, epoch)
}

// journalKey sorts by epoch.
func journalKey(number int, epoch uint64) string {
	return fmt.Sprintf("%s%d/%020s", journalPrefix, number, strconv.FormatUint(epoch, 10))
}

// lastPart is the name at the end of a key.
func lastPart(key string) string { return key[strings.LastIndexByte(key, '/')+1:] }
