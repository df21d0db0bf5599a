package cache

// The instants at which a test may stop a reader or a writer, to force an interleaving.
const (
	AfterPeek     = "after-peek"     // Redis has told what it has, the reader has not decided yet
	BeforePrimary = "before-primary" // a statement is about to be sent to the primary
	AfterPrimary  = "after-primary"  // its answer has come
	BeforeFill    = "before-fill"    // a reader is about to store what he has read
	AfterCommit   = "after-commit"   // a write is durable, no copy knows of it
	BeforeApply   = "before-apply"   // a follower has been handed a release, and has told nobody
	BeforeBeat    = "before-beat"    // … has told everybody, and not said so
)

// Points is called at each instant with its name. It may block. Production has none.
type Points func(name string)

func (p Points) hit(name string) {
	if p != nil {
		p(name)
	}
}
