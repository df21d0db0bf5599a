package ledger

// State is the state of a hold (R8).
type State string

// The states of a hold. None is that of a hold that was never seen; the last three are final.
const (
	None      State = ""
	Held      State = "HELD"
	Confirmed State = "CONFIRMED"
	Cancelled State = "CANCELLED"
	Expired   State = "EXPIRED"
)

// Event is what happens to a hold.
type Event string

// The events of a hold.
const (
	EventHold        Event = "hold"
	EventConfirm     Event = "confirm"
	EventConfirmPart Event = "confirm part"
	EventConfirmLate Event = "confirm late" // of the hold that takes the place of one that has expired
	EventRelease     Event = "release"
	EventExtend      Event = "extend" // and pin
	EventReplace     Event = "replace"
	EventCancel      Event = "cancel"
	EventExpire      Event = "expire"
)

// Transition is an edge of the chart in docs/hold.md.
type Transition struct {
	From  State
	Event Event
	To    State
	Cause string
}

// transitions lists every legal edge of a hold; what is missing is refused, with the reason in refusalIn.
var transitions = []Transition{
	{None, EventHold, Held, "all items are free"},
	{None, EventConfirmLate, Confirmed, "allow_late, and all assets of the hold that has expired are still free (R13)"},
	{None, EventCancel, Cancelled, "the cancel came before its hold: a tombstone (R10)"},
	{Held, EventConfirmPart, Held, "now < expires_at, and something is left (R17)"},
	{Held, EventExtend, Held, "now < expires_at; a pin is an extension, too (R12)"},
	{Held, EventConfirm, Confirmed, "now < expires_at (R9)"},
	{Held, EventRelease, Confirmed, "a part was confirmed, and the rest is given back: by final, cancel, replace or expiry (R8)"},
	{Held, EventReplace, Cancelled, "another hold of the order takes its place (R14)"},
	{Held, EventCancel, Cancelled, "now < expires_at"},
	{Held, EventExpire, Expired, "now ≥ expires_at, seen by the owner's next operation or by a sweeper"},
}

// Transitions returns every legal edge of a hold.
func Transitions() []Transition { return append([]Transition(nil), transitions...) }

// next is the state after an event; false if the event is refused in this state.
func next(s State, e Event) (State, bool) {
	for i := range transitions {
		if transitions[i].From == s && transitions[i].Event == e {
			return transitions[i].To, true
		}
	}
	return s, false
}

// refusalIn is why a hold in state s takes no event that next does not know.
func refusalIn(s State) error {
	switch s {
	case Confirmed:
		return ErrAlreadyConfirmed
	case Cancelled:
		return ErrAlreadyCancelled
	case Expired:
		return ErrHoldExpired
	case None, Held:
	}
	return ErrNotFound
}

// The states of a coupon, as stored.
const (
	couponAvailable = "AVAILABLE"
	couponHeld      = "HELD"
	couponUsed      = "USED"
	couponExpired   = "EXPIRED"
	couponRevoked   = "REVOKED"
)
