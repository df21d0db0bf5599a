package cache

import (
	"testing"
	"time"
)

// TestClockSetBack: stamps prove nothing before the clock has passed what it can have shown before it was set back, and they have aged.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	at := time.Now()
	var c clock
	read := func(after time.Duration, redis int64) {
		c.take(&sample{run: "r", redis: redis, sentAt: at.Add(after), heardAt: at.Add(after + 10*time.Millisecond)})
	}
	read(0, 1_000_000)
	read(200*time.Millisecond, 1_000_195)
	if !c.believes() {
		t.Error("a clock that goes on is not believed")
	}
	read(400*time.Millisecond, 990_000)
	if c.believes() {
		t.Error("a clock that was set back is believed")
	}
	read(2400*time.Millisecond, 992_000)
	if c.believes() {
		t.Error("it is believed before it has passed what it has shown")
	}
	read(13*time.Second, 1_002_600)
	if !c.believes() {
		t.Error("it is never believed again")
	}
	c.take(&sample{run: "another", redis: 5, sentAt: at.Add(14 * time.Second), heardAt: at.Add(14 * time.Second)})
	if stamp := c.last.Load().stampAt(at.Add(14*time.Second + sampleTTL + 1)); stamp != 0 {
		t.Errorf("a sample that is too old stamps %d", stamp)
	}
}
