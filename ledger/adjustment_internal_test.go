package ledger

import "testing"

// TestApprovalIsNeeded: above the amount of a currency, in either direction, and always in a currency that has none.
func TestApprovalIsNeeded(t *testing.T) {
	t.Parallel()
	for text, needed := range map[string][]bool{
		"none":         {false, false, false, false, false},
		"all":          {true, true, true, true, true},
		"CNY=10":       {false, true, false, true, true},
		"CNY=0,USD=10": {true, true, true, true, false},
	} {
		p, err := ParseApproval(text)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range []Money{{10, "CNY"}, {11, "CNY"}, {-10, "CNY"}, {-11, "CNY"}, {1, "USD"}} {
			if p.needs(m.Amount, m.Currency) != needed[i] {
				t.Errorf("%s: %+v needs approval: %v", text, m, !needed[i])
			}
		}
	}
}
