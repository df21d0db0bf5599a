package system_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/statesvc/statesvc/bench"
	"github.com/statesvc/statesvc/internal/testdb"
	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/failpoint"
)

// stepScene is something that one request moves, in one commit or in several on two shards.
type stepScene struct {
	name  string
	steps int // batches of the process that is asked, the last of them with the verdict; one or two may travel together
	// prepare makes what the request needs, and returns the request and a look at what it must have done, once.
	prepare func(c *cluster, t *testing.T, name string) (request, func(t *testing.T))
}

var stepScenes = []stepScene{
	{"units that another shard has", 10, (*cluster).borrowScene},
	{"a grab", 3, (*cluster).grabScene},
	{"a refund", 1, (*cluster).refundScene},
	{"a late confirm", 1, (*cluster).lateScene},
}

// stepJob is a scene and when to die in it.
type stepJob struct {
	stepScene
	point string
	n     int // of the batches that pass the point
}

func stepJobs() (jobs []stepJob) {
	for _, scene := range stepScenes {
		jobs = append(jobs, stepJob{scene, failpoint.BeforeCommit, 1})
		for n := range scene.steps {
			jobs = append(jobs, stepJob{scene, failpoint.AfterCommit, n + 1})
		}
	}
	return jobs
}

// C23, C53: a process dies at every step of a transfer of units (out, in and closed, home and from there to where they are wanted), of a
// grab, of a refund and of a late confirm. It is only asked for this, so its n-th batch is the n-th step. Another process answers the key
// then, what was under way arrives, and the books balance.
func TestC23KilledAtEveryStep(t *testing.T) {
	c := newCluster(t, settings{mariadb: true, instances: 4, sweep: 300 * time.Millisecond, plain: true})
	work := make(chan stepJob)
	var victims sync.WaitGroup
	for _, victim := range c.instances[1:] {
		victims.Go(func() {
			for job := range work {
				victim.dieAtStep(t, job)
			}
		})
	}
	for _, job := range stepJobs() {
		work <- job
	}
	close(work)
	victims.Wait()
	for _, in := range c.instances[1:] {
		_ = in.Kill()
	}
	c.instances = c.instances[:1]
	c.nothingUndecided(t)
	output := run(t, "check", "ledger", "--config", c.writeConfig(t, "check", c.dsns(nil)), "--rate", "0")
	if last := lastLine(output); !strings.Contains(last, " unread=0 ") || !strings.HasSuffix(last, " drift=0") {
		t.Errorf("the audit:\n%s", output)
	}
}

// dieAtStep plays a scene on a process that dies in it.
func (in *instance) dieAtStep(t *testing.T, job stepJob) {
	name := fmt.Sprintf("%s-%s-%d", strings.ReplaceAll(job.name, " ", "-"), job.point, job.n)
	r, look := job.prepare(in.cluster, t, name)
	for !in.arm(t, job.point, job.n) {
		t.Logf("%s: the process died of something else that was to be done", name)
	}
	r.deadline = readyPatience / 2
	if answer := in.send(r); answer.err != nil {
		in.ended(t)
	} else if job.n <= job.steps/2+1 {
		t.Errorf("%s: the process has not died: %v", name, answer)
	}
	if answer := in.cluster.first(t, r); answer.code() != "" {
		t.Errorf("%s: %v", name, answer)
	}
	look(t)
}

// first sends a write to the process that does not die, until its answer is final. What is on its way then arrives.
func (c *cluster) first(t *testing.T, r request) (answer reply) {
	t.Helper()
	r.deadline = 2 * time.Second
	waitFor(t, r.path, readyPatience, func() bool {
		answer = c.instances[0].send(r)
		return answer.final() && answer.status != http.StatusAccepted
	})
	return answer
}

// ownerOn is a name at home on a shard.
func ownerOn(number int, name string) string {
	for n := 0; ; n++ {
		owner := fmt.Sprintf("%s-%d", name, n)
		if on := 1 + int(shard.BucketOf(owner))/(shard.Buckets/shards); on == number {
			return owner
		}
	}
}

func (c *cluster) do(t *testing.T, key, path string, body object, into any) {
	t.Helper()
	c.first(t, newRequest(http.MethodPost, path, key, body)).decode(t, into)
}

func (c *cluster) setStock(t *testing.T, sku string) {
	t.Helper()
	c.first(t, newRequest(http.MethodPut, "/v1/stock/"+sku+"/x", sku, object{"total": 5})).decode(t, new(object))
}

func (c *cluster) look(t *testing.T, into any, path string, args ...any) {
	t.Helper()
	c.instances[0].send(newRequest(http.MethodGet, fmt.Sprintf(path, args...), "", nil)).decode(t, into)
}

func stock(sku string, quantity int) object {
	return object{"kind": "stock", "sku": sku, "location": "x", "quantity": quantity}
}

// borrowScene: all five units of a SKU are on the slice of one shard, and an owner on the other one wants them.
func (c *cluster) borrowScene(t *testing.T, name string) (request, func(t *testing.T)) {
	sku := name
	near, far := ownerOn(1, name), ownerOn(2, name)
	var held anyReply
	c.setStock(t, sku)
	c.do(t, name+"-first", "/v1/holds", object{"owner": near, "order_id": "first", "items": []object{stock(sku, 5)}}, &held)
	c.do(t, name+"-back", "/v1/holds/"+held.Hold.HoldID+"/cancel", object{"owner": near}, &held)
	order := object{"owner": far, "order_id": "wants", "items": []object{stock(sku, 5)}}
	wants := newRequest(http.MethodPost, "/v1/holds", name+"-wants", order)
	return wants, func(t *testing.T) {
		var q struct {
			Total, Available, Held, Used int64
			InTransit                    int64 `json:"in_transit"`
		}
		c.look(t, &q, "/v1/stock/%s/x", sku)
		if q.Total != 5 || q.Held != 5 || q.Available != 0 || q.Used != 0 || q.InTransit != 0 {
			t.Errorf("%s: %+v", sku, q)
		}
	}
}

func (c *cluster) wantBalance(t *testing.T, owner string, available, held int64) {
	t.Helper()
	var body struct {
		Balances []struct{ Available, Held int64 }
	}
	c.look(t, &body, "/v1/owners/%s", owner)
	if len(body.Balances) != 1 || body.Balances[0].Available != available || body.Balances[0].Held != held {
		t.Errorf("%s has %+v; want %d available, %d held", owner, body.Balances, available, held)
	}
}

// grabScene: a packet on one shard with one share, and a grabber on the other.
func (c *cluster) grabScene(t *testing.T, name string) (request, func(t *testing.T)) {
	sender, grabber := ownerOn(1, name+"-s"), ownerOn(2, name+"-g")
	var sent struct {
		Packet struct {
			PacketID string `json:"packet_id"`
		} `json:"packet"`
	}
	c.do(t, name+"-credit", "/v1/owners/"+sender+"/lots", creditBody("one", 9), &sent)
	c.do(t, name+"-send", "/v1/packets", object{"owner": sender, "packet_ref": "p", "amount": cny(7), "shares": 1, "mode": "EQUAL"}, &sent)
	grab := newRequest(http.MethodPost, "/v1/packets/"+sent.Packet.PacketID+"/grabs", name+"-grab", object{"owner": grabber})
	return grab, func(t *testing.T) {
		c.wantBalance(t, grabber, 7, 0)
		c.wantBalance(t, sender, 2, 0)
	}
}

// refundScene: a confirmed hold that is refunded in part.
func (c *cluster) refundScene(t *testing.T, name string) (request, func(t *testing.T)) {
	owner := name
	var held anyReply
	c.do(t, owner+"-credit", "/v1/owners/"+owner+"/lots", creditBody("one", 50), &held)
	c.do(t, owner+"-hold", "/v1/holds", holdBody(owner, "o", money(40)), &held)
	c.do(t, owner+"-confirm", "/v1/holds/"+held.Hold.HoldID+"/confirm", object{"owner": owner}, &held)
	refund := newRequest(http.MethodPost, "/v1/holds/"+held.Hold.HoldID+"/refunds", owner+"-refund",
		object{"owner": owner, "refund_ref": "r", "amount": cny(15)})
	return refund, func(t *testing.T) { c.wantBalance(t, owner, 25, 0) }
}

// lateScene: a hold of money and stock that has expired.
func (c *cluster) lateScene(t *testing.T, name string) (request, func(t *testing.T)) {
	owner, sku := name, name
	var held anyReply
	c.do(t, owner+"-credit", "/v1/owners/"+owner+"/lots", creditBody("one", 50), &held)
	c.setStock(t, sku)
	hold := object{"owner": owner, "order_id": "o", "ttl_ms": 1000, "items": []object{money(40), stock(sku, 2)}}
	c.do(t, owner+"-hold", "/v1/holds", hold, &held)
	waitFor(t, "the hold to expire", readyPatience, func() bool {
		var h holdReply
		c.look(t, &h, "/v1/holds/%s", held.Hold.HoldID)
		return h.State == "EXPIRED"
	})
	late := newRequest(http.MethodPost, "/v1/holds/"+held.Hold.HoldID+"/confirm", owner+"-late", object{"owner": owner, "allow_late": true})
	return late, func(t *testing.T) {
		c.wantBalance(t, owner, 10, 0)
		var q struct{ Used, Held int64 }
		if c.look(t, &q, "/v1/stock/%s/x", sku); q.Used != 2 || q.Held != 0 {
			t.Errorf("%s: %+v", sku, q)
		}
	}
}

// Random operations of all kinds while databases and processes die, always the same ones.
func TestTorture(t *testing.T) {
	testdb.NeedMariaDB(t)
	path, err := racing()
	if err != nil {
		t.Fatal(err)
	}
	result, err := bench.Torture(t.Context(), t.Output(), bench.TortureOptions{Program: path, Duration: 90 * time.Second, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if result.Operations == 0 || result.Faults == 0 || result.Audits == 0 || result.Drift != 0 {
		t.Errorf("%+v", result)
	}
}

// The same on a cluster, whose shards fail over in the middle of borrowing, grabbing and refunding.
func TestTortureOfACluster(t *testing.T) {
	testdb.NeedMariaDB(t)
	path, err := plain()
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "cluster")
	testdb.TakeDown(t, path, os.Environ(), folder)
	p := launch(t, plain, nil, "bench", "torture", "--cluster", "--minutes", "0.5", "--seed", "1", "--data", folder)
	t.Cleanup(func() { _ = p.Kill() })
	select {
	case <-p.Done():
	case <-time.After(clusterPatience):
		t.Fatalf("the torture does not end\n%s", p.log)
	}
	var operations, faults, audits, drift int
	last := lastLine(p.log.String())
	_, err = fmt.Sscanf(last, "operations=%d faults=%d audits=%d drift=%d", &operations, &faults, &audits, &drift)
	if err = errors.Join(err, p.Err()); err != nil || operations == 0 || faults == 0 || audits == 0 || drift != 0 {
		showLogs(t, folder)
		t.Errorf("%s: %v\n%s", last, err, p.log)
	}
}

const clusterPatience = 8 * time.Minute
