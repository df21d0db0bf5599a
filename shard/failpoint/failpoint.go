// Package failpoint names the instants of a batch at which a test may stop or kill the process. Production passes nil
// [Points]; there is no global switch.
package failpoint

// The instants, in the order in which a batch passes them.
const (
	BeforeBegin  = "before-begin"  // the batch is taken, nothing was sent
	AfterLoad    = "after-load"    // rows are locked and decided, nothing was written
	BeforeCommit = "before-commit" // the packet of writes and COMMIT is complete, not sent
	AfterCommit  = "after-commit"  // the commit is durable, no caller has its answer
)

// All lists the instants.
var All = []string{BeforeBegin, AfterLoad, BeforeCommit, AfterCommit}

// Points is called at each instant with its name. It may block or kill the process.
type Points func(name string)

// Hit passes an instant.
func (p Points) Hit(name string) {
	if p != nil {
		p(name)
	}
}
