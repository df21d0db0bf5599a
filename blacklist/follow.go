package blacklist

import (
	"github.com/statesvc/statesvc/register"
)

// blocksChanged takes over changes of blocks/. Mirror calls it in order, one at a time.
func (b *Blacklist) blocksChanged(events []register.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed := map[place]bool{}
	for _, e := range events {
		block, err := decodeBlock(e.Entry)
		if !b.readable(e, err) {
			continue
		}
		changed[block.place()] = true
		if e.Deleted {
			b.drop(e.Key, block.place())
		} else {
			b.set(e.Key, block)
		}
	}
	b.publish(changed)
}

// undecidedChanged takes over changes of undecided/.
func (b *Blacklist) undecidedChanged(events []register.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	changed := map[place]bool{}
	for _, e := range events {
		record, err := decodeUndecided(e.Entry)
		if !b.readable(e, err) {
			continue
		}
		block := record.block()
		changed[block.place()] = true
		if e.Deleted {
			b.drop(e.Key, block.place())
		} else {
			b.set(e.Key, block)
		}
	}
	b.publish(changed)
}

// readable remembers keys that say not what they block, until they are gone.
func (b *Blacklist) readable(e register.Event, err error) bool {
	if err != nil && !e.Deleted {
		b.unreadable[e.Key] = err
	} else {
		delete(b.unreadable, e.Key)
	}
	return err == nil
}

// set and drop change what blocks a place; publish makes it visible. The caller holds mu.
func (b *Blacklist) set(key string, block Block) {
	p := block.place()
	if b.causes[p] == nil {
		b.causes[p] = map[string]Block{}
	}
	b.causes[p][key] = block
	delete(b.ends, key)
	if !block.Until.IsZero() {
		b.ends[key] = block.Until
	}
}

func (b *Blacklist) drop(key string, p place) {
	delete(b.ends, key)
	delete(b.causes[p], key)
	if len(b.causes[p]) == 0 {
		delete(b.causes, p)
	}
}
