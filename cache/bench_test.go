package cache_test

import (
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/statesvc/statesvc/state"
)

// BenchmarkRead has 64 readers of a hundred documents that are in Redis and not in memory. Get is the line to compare with: one GET for
// each read. cpu-µs/op is what this process has taken of the processors; it says more than the time on a machine that is busy.
func BenchmarkRead(b *testing.B) {
	const hot, readers = 100, 64
	body := `{"text":"` + strings.Repeat("x", 400) + `"}`
	r := newRig(b)
	n := r.start(noL1)
	keys := make([]state.Key, hot)
	for i := range keys {
		keys[i] = key(strconv.Itoa(i))
		r.commit(keys[i], body, absent)
		n.shows(keys[i], body, bounded)
		r.must(r.client.Set(b.Context(), keys[i].ID, body, 0).Err())
	}
	stop := r.follow(n)
	defer stop()
	r.trusts(n, keys[0])
	for name, read := range map[string]func(k state.Key) error{
		"get":  func(k state.Key) error { return r.client.Get(b.Context(), k.ID).Err() },
		"peek": func(k state.Key) error { _, err := n.Read(b.Context(), k, bounded); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetParallelism(readers / 2)
			b.ReportAllocs()
			before := processorTime()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if err := read(keys[i%hot]); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64((processorTime()-before).Nanoseconds())/1000/float64(b.N), "cpu-µs/op")
		})
	}
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
