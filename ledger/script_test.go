package ledger

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/statesvc/statesvc/shard"
	"github.com/statesvc/statesvc/shard/id"
)

var update = flag.Bool("update", false, "rewrite the golden output of the scripts in testdata")

// TestScripts runs testdata/*.txt. A line is a comment, or a time, an operation and, after ----, everything that came of it:
//
//	at 1s  hold h1 lines=100,50 coupon=c1 money=20  ----  HELD discount 30 payable 100 | c1 HELD, l1 80/20/0/0 | v4
//
// Coupons, lots and holds have names of their own in a script. A lot shows available/held/spent/expired; +KIND is a new entry.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runScript(t, file) })
	}
}

func runScript(t *testing.T, file string) {
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{desk: newDesk(t), names: map[id.ID]string{}, ids: map[string]id.ID{}, seen: map[string]string{}}
	got := s.run(string(want))
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	wantLines, gotLines := strings.Split(string(want), "\n"), strings.Split(got, "\n")
	for i, line := range gotLines {
		if line != wantLines[i] {
			t.Errorf("line %d\n got %s\nwant %s", i+1, line, wantLines[i])
		}
	}
}

type script struct {
	*desk
	names   map[id.ID]string
	ids     map[string]id.ID
	seen    map[string]string // what was shown last of each asset
	entries int
}

func (s *script) run(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		command, _, _ := strings.Cut(line, "----")
		command = strings.TrimSpace(command)
		if command == "" || strings.HasPrefix(command, "#") {
			fmt.Fprintln(&out, line)
			continue
		}
		fmt.Fprintf(&out, "%-62s ----  %s\n", command, s.command(strings.Fields(command)))
	}
	return out.String()
}

// command runs "at <time> <operation> <name> <options>".
func (s *script) command(words []string) string {
	after, err := time.ParseDuration(words[1])
	if err != nil || words[0] != "at" {
		s.tb.Fatalf("%v: no time", words)
	}
	s.at = epoch.Add(after)
	options := options{owner: "u1", values: map[string]string{}}
	for _, word := range words[3:] {
		options.add(word)
	}
	reply := s.operation(words[2], &options)
	return strings.Join(slices.DeleteFunc([]string{s.outcome(reply), s.changes(), s.version(options.owner)},
		func(part string) bool { return part == "" }), " | ")
}

type options struct {
	owner, name string
	values      map[string]string
	items       []string
}

func (o *options) add(word string) {
	name, value, ok := strings.Cut(word, "=")
	switch {
	case !ok:
		o.name = word
	case name == "owner":
		o.owner = value
	case name == "coupon" || name == "money":
		o.items = append(o.items, word)
	default:
		o.values[name] = value
	}
}

func (o *options) int(name string) int64 {
	n, err := strconv.ParseInt(o.values[name], 10, 64)
	if o.values[name] != "" && err != nil {
		panic(err)
	}
	return n
}

func (o *options) or(name, otherwise string) string {
	if v := o.values[name]; v != "" {
		return v
	}
	return otherwise
}

func (s *script) operation(verb string, o *options) shard.Reply {
	switch verb {
	case "issue":
		return s.do(o.owner, s.issueOp(o))
	case "credit":
		return s.do(o.owner, &creditOp{
			CreditLot: CreditLot{
				Owner: o.owner, IssueRef: o.name, Source: "spring", Tag: o.values["tag"],
				Amount: Money{o.int("amount"), o.or("currency", "CNY")}, ExpiresAt: s.time(o, "expires", "1h"),
				RefundGrace: time.Duration(o.int("grace")) * time.Second,
			}, id: s.named(id.Lot, o),
		})
	case "hold":
		_, minted := s.ids[o.name]
		return s.holdAs(s.holdRequest(o, minted), s.named(id.Hold, o))
	case "confirm":
		return s.do(o.owner, &confirmOp{Confirm: Confirm{Owner: o.owner, Hold: s.holdRef(o)}})
	case "cancel":
		op := &cancelOp{Cancel: Cancel{o.owner, s.holdRef(o)}}
		if op.tombstone = op.Hold.HoldID; op.tombstone == (id.ID{}) {
			op.tombstone = s.mint(id.Hold, o.owner)
		}
		return s.do(o.owner, op)
	case "expire":
		return s.do(o.owner, expireOp{})
	}
	if body := s.grown(verb, o); body != nil {
		return s.do(o.owner, body)
	}
	s.tb.Fatalf("no operation %q", verb)
	return shard.Reply{}
}

// grown reads the operations on holds that are there: part, late, extend, pin, replace, refund, and those of administrators.
func (s *script) grown(verb string, o *options) any {
	reason := o.or("why", "a reason")
	switch verb {
	case "part":
		r := Confirm{Owner: o.owner, Hold: s.holdRef(o), Final: o.values["final"] != "", Items: s.parts(o)}
		if n := o.int("amount"); n > 0 {
			r.Amount = Money{n, o.or("currency", "CNY")}
		}
		return &confirmOp{Confirm: r}
	case "late":
		return &confirmOp{
			Confirm:   Confirm{Owner: o.owner, Hold: s.holdRef(o), AllowLate: true},
			successor: s.named(id.Hold, &options{owner: o.owner, name: o.values["as"]}),
		}
	case "extend":
		return &extendOp{Extend{o.owner, s.holdRef(o), s.duration(o)}}
	case "pin":
		return &pinOp{Pin{o.owner, s.holdRef(o), s.duration(o)}}
	case "replace":
		h := s.holdRequest(o, false)
		if err := validateHold(Caller{Key: "k"}, &h); err != nil {
			s.tb.Fatal(err)
		}
		old := s.named(id.Hold, &options{owner: o.owner, name: o.values["old"]})
		return &replaceOp{holdOp: holdOp{Hold: h, id: s.named(id.Hold, o), hash: requestHash(fingerprintHold(&h))}, old: HoldRef{HoldID: old}}
	case "refund":
		r := Refund{Owner: o.owner, Hold: s.holdRef(o), RefundRef: o.values["ref"], All: o.values["all"] != "", Items: s.parts(o)}
		if n := o.int("amount"); n > 0 {
			r.Amount = Money{n, o.or("currency", "CNY")}
		}
		if o.values["lines"] != "" {
			r.Lines = strings.Split(o.values["lines"], ",")
		}
		return &refundOp{Refund: r, id: s.mint(id.Refund, o.owner), hash: refundHash(fingerprintRefund(&r))}
	case "freeze", "unfreeze":
		return &freezeOp{Freeze{o.owner, verb == "freeze", reason}}
	case "adjust", "propose":
		r := AdjustMoney{Owner: o.owner, AdjustmentRef: o.name, Delta: o.int("delta"), Currency: o.or("currency", "CNY"), Reason: reason}
		if r.Delta > 0 {
			r.ExpiresAt = s.time(o, "expires", "1h")
		}
		lot := s.named(id.Lot, &options{owner: o.owner, name: "l-" + o.name})
		return &adjustOp{
			AdjustMoney: r, id: s.named(id.Adjustment, o), lotID: lot, by: KeyName{KeyID: o.or("by", "ann")}, proposed: verb == "propose",
		}
	case "approve", "reject":
		r := DecideAdjustment{Owner: o.owner, AdjustmentID: s.named(id.Adjustment, o), Approve: verb == "approve", Reason: reason}
		lot := s.named(id.Lot, &options{owner: o.owner, name: "l-" + o.name})
		return &decideAdjustmentOp{DecideAdjustment: r, lotID: lot, by: KeyName{KeyID: o.or("by", "bob")}}
	case "end":
		return &endAdjustmentOp{s.named(id.Adjustment, o)}
	case "revoke":
		r := Revoke{Owner: o.owner, IncludeHeld: o.values["held"] != "", Reason: reason}
		if i := s.named(id.Coupon, o); s.coupons[i] != nil {
			r.Coupon = i
		} else {
			r.Lot = i
		}
		return &revokeOp{r}
	}
	return nil
}

// parts reads items=0:all,1:20.
func (s *script) parts(o *options) (parts []PartRequest) {
	for word := range strings.SplitSeq(o.values["items"], ",") {
		if word == "" {
			continue
		}
		place, amount, _ := strings.Cut(word, ":")
		part := PartRequest{All: amount == "all"}
		part.Item, _ = strconv.Atoi(place)
		if !part.All {
			part.Amount.Currency = o.or("currency", "CNY")
			part.Amount.Amount, _ = strconv.ParseInt(amount, 10, 64)
		}
		parts = append(parts, part)
	}
	return parts
}

func (s *script) duration(o *options) time.Duration {
	ttl, err := time.ParseDuration(o.values["ttl"])
	if err != nil {
		s.tb.Fatal(err)
	}
	return ttl
}

func (s *script) issueOp(o *options) *issueOp {
	d := Discount{
		Kind: Fixed, Currency: o.or("currency", "CNY"), Amount: o.int("fixed"), BasisPoints: o.int("points"), Cap: o.int("cap"),
		MinSpend: o.int("min"),
	}
	if d.BasisPoints > 0 {
		d.Kind = Percent
	}
	terms := Terms{
		Refund: RefundPolicy(o.values["policy"]), StackGroup: o.values["group"], MaxPerGroup: int(o.int("most")),
		Priority: int(o.int("priority")), ReturnGraceMs: o.int("grace") * 1000,
	}
	if n := o.int("together"); n > 0 {
		terms.MaxDiscount = Money{n, d.Currency}
	}
	op := &issueOp{id: s.named(id.Coupon, o)}
	op.IssueCoupon = IssueCoupon{
		Owner: o.owner, CampaignID: "spring", IssueRef: o.name, Discount: d, ExpiresAt: s.time(o, "expires", "1h"), Terms: terms,
	}
	if o.values["from"] != "" {
		op.ValidFrom = s.time(o, "from", "")
	}
	return op
}

// holdRequest names the id of a hold that the script has mentioned before, as a caller does who has minted it.
func (s *script) holdRequest(o *options, minted bool) Hold {
	h := Hold{Owner: o.owner, Attempt: 1, TTL: time.Minute, OverCapture: o.int("over")}
	if minted {
		h.HoldID = s.named(id.Hold, o)
	}
	h.OrderID, h.Attempt = s.order(o)
	if o.values["ttl"] != "" {
		ttl, err := time.ParseDuration(o.values["ttl"])
		if err != nil {
			s.tb.Fatal(err)
		}
		h.TTL = ttl
	}
	if o.values["lines"] != "" {
		for i, amount := range strings.Split(o.values["lines"], ",") {
			n, _ := strconv.ParseInt(amount, 10, 64)
			h.Lines = append(h.Lines, Line{fmt.Sprintf("l%d", i+1), Money{n, o.or("currency", "CNY")}})
		}
	}
	for _, word := range o.items {
		h.Items = append(h.Items, s.item(word, o))
	}
	return h
}

// item reads coupon=c1, money=20, money=20:tag, money=all or money=all:tag.
func (s *script) item(word string, o *options) Item {
	kind, value, _ := strings.Cut(word, "=")
	if kind == "coupon" {
		return Item{Kind: CouponItem, CouponID: s.named(id.Coupon, &options{owner: o.owner, name: value})}
	}
	amount, tag, _ := strings.Cut(value, ":")
	it := Item{Kind: MoneyItem, Tag: tag, Amount: Money{Currency: o.or("of", o.or("currency", "CNY"))}}
	if it.All = amount == "all"; !it.All {
		it.Amount.Amount, _ = strconv.ParseInt(amount, 10, 64)
	}
	return it
}

// order reads order=name/attempt.
func (s *script) order(o *options) (string, int) {
	name, attempt, _ := strings.Cut(o.or("order", "order-"+o.name), "/")
	if attempt == "" {
		return name, 1
	}
	n, err := strconv.Atoi(attempt)
	if err != nil {
		s.tb.Fatal(err)
	}
	return name, n
}

func (s *script) holdRef(o *options) HoldRef {
	if o.name != "" {
		return HoldRef{HoldID: s.named(id.Hold, o)}
	}
	var r HoldRef
	r.OrderID, r.Attempt = s.order(o)
	return r
}

// named returns the id that a script's name stands for.
func (s *script) named(kind id.Kind, o *options) id.ID {
	if i, ok := s.ids[o.name]; ok {
		return i
	}
	i := s.mint(kind, o.owner)
	s.ids[o.name], s.names[i] = i, o.name
	return i
}

func (s *script) time(o *options, name, otherwise string) time.Time {
	after, err := time.ParseDuration(o.or(name, otherwise))
	if err != nil {
		s.tb.Fatal(err)
	}
	return epoch.Add(after)
}

func (s *script) outcome(r shard.Reply) string {
	if refused := refusalOf(s.tb, r); refused != nil {
		text := refused.Code
		if refused.Pointer != "" {
			text += " " + refused.Pointer
		}
		if refused.Asked != nil {
			text += fmt.Sprintf(" asked %d have %d", *refused.Asked, *refused.Have)
		}
		for _, gone := range refused.Gone {
			name := s.names[s.idOf(id.Coupon, gone.CouponID)] + s.names[s.idOf(id.Lot, gone.LotID)]
			text += fmt.Sprintf(" %s %d of %d", name, gone.Have, gone.Asked)
		}
		if !refused.RetryAt.IsZero() {
			text += " until " + refused.RetryAt.Sub(epoch).String()
		}
		return text
	}
	if r.Err != nil {
		return r.Err.Error()
	}
	if len(r.Body) == 0 {
		return "DONE"
	}
	body := wantDone[struct {
		Hold          *HoldBody
		Refund        *RefundBody
		Adjustment    *AdjustmentBody
		AlreadyExists bool `json:"already_exists"`
	}](s.tb, r)
	text := "DONE"
	if body.Hold != nil {
		text = holdOutcome(body.Hold)
	}
	if body.Refund != nil {
		text = refundOutcome(body.Refund)
	}
	if body.Adjustment != nil {
		text = body.Adjustment.State
	}
	if body.AlreadyExists {
		text += " already exists"
	}
	return text
}

// idOf is zero for no text.
func (s *script) idOf(kind id.Kind, text string) (i id.ID) {
	if text != "" {
		i, _ = s.codec.Parse(kind, text)
	}
	return i
}

func holdOutcome(h *HoldBody) string {
	text := h.State
	if h.Tombstone {
		text += " tombstone"
	}
	if h.Discount != nil {
		text += fmt.Sprintf(" discount %d payable %d", h.Discount.Amount, h.Payable.Amount)
	}
	for _, part := range h.Parts {
		text += fmt.Sprintf(" %d/%d", part.Confirmed, part.Refunded)
	}
	if h.OverCaptured != nil {
		text += fmt.Sprintf(" over %d/%d", h.OverCaptured.Confirmed, h.OverCaptured.Refunded)
	}
	if h.Rest != "" {
		text += " rest " + h.Rest
	}
	return text
}

// refundOutcome shows what came back, line by line price-discount=money+payable, and what is left.
func refundOutcome(r *RefundBody) string {
	text := fmt.Sprintf("back %d left %d", r.Amount.Amount, r.Left.Amount)
	for _, l := range r.Lines {
		text += fmt.Sprintf(" %s %d-%d=%d+%d", l.LineID, l.Amount, l.Discount, l.Money, l.Payable)
	}
	if r.Whole {
		text += " whole"
	}
	if len(r.BelowMinSpend) > 0 {
		text += " below min-spend"
	}
	return text
}

// changes shows the assets and entries that are not as they were shown last.
func (s *script) changes() string {
	var changed []string
	show := func(name, text string) {
		if s.seen[name] != text {
			s.seen[name] = text
			changed = append(changed, name+" "+text)
		}
	}
	for _, c := range s.coupons {
		show(s.names[c.id], c.state)
	}
	for _, l := range s.lots {
		show(s.names[l.id], fmt.Sprintf("%d/%d/%d/%d", l.Available, l.Held, l.Spent, l.Expired))
	}
	slices.Sort(changed)
	for _, e := range s.changed.entries[s.entries:] {
		changed = append(changed, "+"+e.kind)
	}
	s.entries = len(s.changed.entries)
	return strings.Join(changed, ", ")
}

func (s *script) version(owner string) string {
	return fmt.Sprintf("v%d", s.owners[owner].ver)
}
