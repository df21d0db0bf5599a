package main

import (
	"database/sql"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/statesvc/statesvc/internal/mariadb"
	"github.com/statesvc/statesvc/internal/testdb"
)

// TestMariaDBAsDocumented follows docs/operations.md: a server with its settings, users with its grants, `migrate up` with the one
// and `serve` with the other. Then a checkout, a restart of the server, and the checkout again.
func TestMariaDBAsDocumented(t *testing.T) {
	text := document(t, "docs/operations.md")
	settings := settingsOf(t, text)
	server := testdb.Start(t, mariadb.Options{Settings: settings})
	checkSettings(t, server, settings)
	for statement := range strings.SplitSeq(strings.Join(blocks(text, "sql"), ""), ";") {
		if statement = strings.TrimSpace(statement); statement != "" {
			server.Exec(t, strings.ReplaceAll(statement, "10.0.0.%", "127.0.0.1"))
		}
	}

	folder := t.TempDir()
	config := func(user string) string {
		return write(t, filepath.Join(folder, user[:10]+".yaml"), "listen: 127.0.0.1:0\ndrain_delay: 0s\nregister: "+folder+"/register\n"+
			"shards: [{name: s1, dsn: \""+user+"@tcp("+server.Addr()+")/statesvc_1\", "+
			"feed: \"statesvc_feed:a third secret@tcp("+server.Addr()+")/statesvc_1\"}]\n")
	}
	app := config("statesvc:secret")
	refused(t, []string{"migrate", "up", "--config", app}, "1142", "docs/operations.md has the grants")
	must(t, "migrate", "up", "--config", config("statesvc_migrate:another secret"))
	key := token(must(t, "keys", "create", "--config", app, "--name", "test", "--scopes", "read,hold,issue"))
	feed := serve(t, `"gap":"(new)"`, "feed", "s1", "--config", app, "--tables", "lots,entries")
	s := serve(t, serveServes, "serve", "--config", app)
	c := caller{s.base, key}

	c.want(t, http.StatusCreated, "POST", "/v1/owners/user-1/lots", "credit", creditBody("r", 100))
	feed.out.await(t, `("table":"lots","bucket":\d+,"after":.*"available":100,)`, nil)
	feed.out.await(t, `("table":"entries","bucket":\d+,"after":.*"owner":"user-1","seq":1})`, nil)
	body := `{"owner":"user-1","order_id":"o","items":[{"kind":"money","amount":{"amount":60,"currency":"CNY"}}]}`
	hold := c.want(t, http.StatusCreated, "POST", "/v1/holds", "hold", body)
	server.Restart(t, settings...)
	eventually(t, "the instance is ready again", func() bool {
		r, err := c.send(t, "GET", "/readyz", "", "")
		return err == nil && r.status == http.StatusOK
	})
	eventually(t, "the hold is answered again", func() bool {
		r, err := c.send(t, "POST", "/v1/holds", "hold", body)
		return err == nil && r.replayed && r.body == hold.body
	})
	confirmed := c.want(t, http.StatusOK, "POST", "/v1/holds/confirm", "confirm", `{"owner":"user-1","order_id":"o"}`)
	if state := confirmed.at(t, "hold", "state"); state != "CONFIRMED" {
		t.Errorf("the hold is %v", state)
	}
	feed.out.await(t, `("table":"lots","bucket":\d+,"before":.*"held":60,.*"after":.*"spent":60,)`, nil)
}

// TestMigrateSaysWhatToDo: the errors of a database that a new user meets come with advice.
func TestMigrateSaysWhatToDo(t *testing.T) {
	server := testdb.MariaDB(t)
	address := server.Addr()
	for want, dsn := range map[string]string{
		"CREATE DATABASE":        "app@tcp(" + address + ")/no_such_schema",
		"the user or the passwo": "nobody:wrong@tcp(" + address + ")/no_such_schema",
		"is the server running":  "app@tcp(127.0.0.1:1)/x",
		"names no schema":        "app@tcp(127.0.0.1:1)/",
		"takes no parameters":    "app@tcp(127.0.0.1:1)/x?timeout=1s",
	} {
		folder := t.TempDir()
		file := write(t, filepath.Join(folder, "c.yaml"), "register: "+folder+"/register\nshards: [{name: s1, dsn: \""+dsn+"\"}]\n")
		refused(t, []string{"migrate", "up", "--config", file}, "s1", want)
		refused(t, []string{"migrate", "status", "--config", file}, "s1", want)
	}
}

// settingsOf reads the my.cnf of the document.
func settingsOf(t testing.TB, text string) (settings []string) {
	t.Helper()
	for line := range strings.Lines(strings.Join(blocks(text, "ini"), "")) {
		if name, value, found := strings.Cut(line, "="); found && line[0] != '#' {
			settings = append(settings, strings.TrimSpace(name)+"="+strings.TrimSpace(value))
		}
	}
	if len(settings) < 10 {
		t.Fatalf("docs/operations.md has the settings %v", settings)
	}
	return settings
}

// checkSettings asks the server for what it was given.
func checkSettings(t testing.TB, server *testdb.Server, settings []string) {
	t.Helper()
	db, err := sql.Open("mysql", server.AdminDSN("mysql"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, setting := range settings {
		name, want, _ := strings.Cut(setting, "=")
		name, optional := strings.CutPrefix(name, "loose_")
		if name == "transaction_isolation" {
			name = "tx_isolation" // releases before 11.1 call the variable otherwise than the setting; later ones know both
		}
		var ignored, got string
		if err := db.QueryRowContext(t.Context(), "SHOW GLOBAL VARIABLES WHERE variable_name=?", name).Scan(&ignored, &got); err != nil {
			if !optional {
				t.Errorf("the server has no %s: %v", name, err)
			}
			continue
		}
		if megabytes, found := strings.CutSuffix(want, "M"); found {
			n, err := strconv.Atoi(megabytes)
			if err != nil {
				t.Fatal(err)
			}
			want = strconv.Itoa(n << 20)
		}
		if name == "log_bin" {
			want = "ON" // the setting is the name of its files
		}
		if !strings.EqualFold(got, want) {
			t.Errorf("%s is %s, and was set to %s", name, got, want)
		}
	}
}
