package ledger

import (
	"sync"
	"time"
)

// Wrong codes that are answered in a window; then there is a pause until the window ends. An API key speaks for many owners.
const (
	guessWindow     = 10 * time.Minute
	guessesOfOwner  = 10
	guessesOfClient = 1000
	knownGuessers   = 100_000 // that an instance counts; beyond it, it begins anew
)

// guesses counts codes that were wrong, by owner and by client. Each instance counts for itself and forgets when it starts: with n of
// them, somebody has n times as many attempts. Against codes of 80 random bits that is nothing.
type guesses struct {
	mu  sync.Mutex
	who map[string]guessed
}

// guessed is a window that began with a wrong code.
type guessed struct {
	until time.Time
	wrong int
}

// admit returns a refusal if an owner or his client has had as many wrong codes as are answered.
func (g *guesses) admit(client, owner string, now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var until time.Time
	for _, one := range guessers(client, owner) {
		if w := g.who[one.name]; w.until.After(now) && w.wrong >= one.most && w.until.After(until) {
			until = w.until
		}
	}
	if until.IsZero() {
		return nil
	}
	refused := refusal(ErrTooManyGuesses, "", "too many wrong codes came from this owner or this API key")
	refused.RetryAt = until.UTC()
	return refused
}

// wrong counts a code that was wrong.
func (g *guesses) wrong(client, owner string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.who == nil || len(g.who) >= knownGuessers {
		g.who = map[string]guessed{}
	}
	for _, one := range guessers(client, owner) {
		w := g.who[one.name]
		if !w.until.After(now) {
			w = guessed{until: now.Add(guessWindow)}
		}
		w.wrong++
		g.who[one.name] = w
	}
}

type guesser struct {
	name string
	most int
}

// guessers are who is counted for an attempt. The names of owners and clients cannot be taken for each other.
func guessers(client, owner string) [2]guesser {
	return [2]guesser{{"owner/" + owner, guessesOfOwner}, {"client/" + client, guessesOfClient}}
}
