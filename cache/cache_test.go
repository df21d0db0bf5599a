package cache_test

import (
	"testing"
)

func TestWrittenOnceReadEverywhere(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b := r.start(nil), r.start(nil)
	a.shows("sku-1", "", bounded)
	a.put("sku-1", `{"price":100}`, absent)
	for _, n := range []*node{a, b} {
		n.shows("sku-1", `{"price":100}`, strong)
		t.Logf("%+v", n.shows("sku-1", `{"price":100}`, bounded).Status)
		t.Logf("%+v", n.shows("sku-1", `{"price":100}`, bounded).Status)
	}
}
