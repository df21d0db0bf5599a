package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/client"
)

// More codes than one request makes are made in pieces, once; a file has all of them, also if it is written again, and so has the list,
// with who has redeemed what.
func TestCodes(t *testing.T) {
	file := clusterFile(t)
	must(t, "migrate", "up", "--config", file)
	key := token(must(t, "keys", "create", "--config", file, "--name", "test", "--scopes", "hold,issue"))
	s := serve(t, serveServes, "serve", "--config", file)
	c, err := client.New(client.Options{BaseURL: s.base, Token: key})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateCampaign(t.Context(), client.NewKey(), client.CampaignRequest{
		CampaignID: "spring", TimeZone: "Europe/Berlin", StartsAt: time.Now().Add(-time.Hour), EndsAt: time.Now().AddDate(0, 0, 14),
		Discount: client.DiscountRequest{Kind: client.Fixed, Amount: client.Money{Amount: 500, Currency: "CNY"}},
		Validity: client.Validity{Kind: client.Days, Days: 30}, TotalLimit: 100, CodeRequired: true,
	}); err != nil {
		t.Fatal(err)
	}
	codes := func(what, batch string, more ...string) []string {
		return append([]string{"codes", what, "--address", s.base, "--key", key, "--campaign", "spring", "--batch", batch}, more...)
	}
	folder := t.TempDir()
	path, listed := filepath.Join(folder, "letters.csv"), filepath.Join(folder, "listed.csv")
	made := must(t, codes("make", "letters", "--count", "1010", "--out", path)...)
	first := lines(t, path)
	if !strings.HasSuffix(made, "made=1010 already_existed=0 elsewhere=0\n") || len(first) != 1011 ||
		!strings.HasSuffix(first[1010], ",letters/2") {
		t.Fatalf("%s%d lines, the last %q", made, len(first), first[len(first)-1])
	}
	again := must(t, codes("make", "letters", "--count", "1010", "--out", path)...)
	if second := lines(t, path); !strings.HasSuffix(again, "made=0 already_existed=1010 elsewhere=0\n") ||
		strings.Join(first, "") != strings.Join(second, "") {
		t.Errorf("%sthe file is not as it was", again)
	}
	code, _, _ := strings.Cut(first[1], ",")
	if _, err := c.Redeem(t.Context(), client.NewKey(), "user-1", code); err != nil {
		t.Error(err)
	}
	if out := must(t, codes("list", "letters", "--out", listed)...); !strings.HasSuffix(out, "codes=1010\n") {
		t.Error(out)
	}
	all := lines(t, listed)
	if len(all) != 1011 || all[1] != code+",letters/1,1,UNIQUE,REDEEMED,user-1" ||
		!strings.HasSuffix(all[1010], ",letters/2,10,UNIQUE,FREE,") {
		t.Errorf("%d lines: %q … %q", len(all), all[1], all[len(all)-1])
	}

	printed := write(t, filepath.Join(folder, "printed.txt"), "FLYER-0001-X7\n\n flyer 0002 k3 \r\n")
	if out := must(t, codes("make", "flyers", "--from", printed)...); !strings.Contains(out, "FLYER0002K3") {
		t.Error(out)
	}
	if out, err := command(t, nil, codes("make", "others", "--from", printed)...); err == nil || !strings.Contains(out, "elsewhere=2\n") {
		t.Errorf("%v: %s", err, out)
	}
	must(t, codes("make", "banner", "--shared", "SPRING26")...)
	refused(t, codes("make", "banner", "--shared", "OTHER-CODE-1"), "key-reused")
	refused(t, codes("make", "x"), errOneOf.Error())
	refused(t, codes("make", "x", "--count", "3", "--shared", "SPRING26"), errOneOf.Error())
	refused(t, codes("make", "x", "--count", "0"), "cannot be made")
	refused(t, codes("make", "x", "--from", write(t, filepath.Join(folder, "empty.txt"), "\n")), "no codes in it")
	if left, _ := filepath.Glob(filepath.Join(folder, "*.part-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func lines(t testing.TB, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimRight(string(text), "\n"), "\n")
}
