package cache_test

import "testing"

func TestWrittenOnceReadEverywhere(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b := r.start(), r.start()
	k := key("sku-1")
	a.comes(k, "", filled, bounded)
	a.put(k, v1, absent)
	a.comes(k, v1, fromL1, bounded)
	b.comes(k, v1, fromRedis, bounded)
	b.comes(k, v1, fromL1, bounded)
	b.comes(k, v1, "statesvc; fwd=request", strong)
	b.comes(k, v1, fromL1, eventual)
}
