package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

const oneShard = "shards:\n  - {name: s1, dsn: \"app:secret@tcp(db:3306)/one\"}\n"

// Flags go before the environment, that before the file, that before the defaults.
func TestConfigOrder(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "c.yaml"), oneShard+"queue: 100\nbatch: 10\nlanes: 3\nsweep_every: 7s\n")
	env := []string{"STATESVC_BATCH=20", "STATESVC_LANES=4", "STATESVC_LOG_OWNERS=true", "OTHER=1"}
	printed, err := command(t, env, "serve", "--config", file, "--print-config", "--lanes", "5", "--drain-delay", "1s")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"queue: 100\n", "batch: 20\n", "lanes: 5\n", "sweep_every: 7s\n", "drain_delay: 1s\n", "log_owners: true\n", "trace_ratio: 0.01\n",
		"name: s1\n",
	} {
		if !strings.Contains(printed, want) {
			t.Errorf("there is no %q in\n%s", want, printed)
		}
	}
}

// --print-config shows no password, whatever it is made of, and does nothing else.
func TestPrintConfigHidesPasswords(t *testing.T) {
	for _, dsn := range []string{
		"app:hidden@tcp(db:3306)/one", "app:hid@den:hidden@tcp(db:3306)/one", "app:hidden", "app@tcp(db:3306)/one?secret=hidden",
	} {
		file := write(t, filepath.Join(t.TempDir(), "c.yaml"), fmt.Sprintf(
			"shards:\n  - {name: s1, dsn: %q}\notlp_endpoint: \"http://user:hidden@collector:4318\"\nregister: /nowhere/at/all\n", dsn))
		for _, program := range [][]string{{"serve"}, {"migrate", "up"}, {"migrate", "status"}} {
			printed := must(t, append(program, "--config", file, "--print-config")...)
			if strings.Contains(printed, "hidden") || strings.Contains(printed, "hid@den") {
				t.Errorf("%v with %s prints\n%s", program, dsn, printed)
			}
		}
	}
}

// A name that does not exist is an error, wherever it stands: a setting that was meant and not made is worse than no start.
func TestUnknownSettings(t *testing.T) {
	folder := t.TempDir()
	good := write(t, filepath.Join(folder, "good.yaml"), oneShard)
	for _, c := range []struct {
		name string
		file string
		env  string
		flag string
		want []string
	}{
		{"in the file", oneShard + "lane: 2\n", "", "", []string{"bad.yaml", `"lane"`, "serve --help"}},
		{"of a shard", "shards:\n  - {name: s1, dns: x}\n", "", "", []string{"bad.yaml", "shard 1", `"dns"`}},
		{"nested", oneShard + "log: {level: info}\n", "", "", []string{`"log"`}},
		{"in the environment", "", "STATESVC_LANE=2", "", []string{"STATESVC_LANE", `"lane"`}},
		{"of Kubernetes", "", "STATESVC_SERVICE_HOST=10.0.0.1", "", []string{"STATESVC_SERVICE_HOST", "enableServiceLinks"}},
		{"shards in the environment", "", "STATESVC_SHARDS=s1", "", []string{"STATESVC_SHARDS", "--config"}},
		{"a flag", "", "", "--lane=2", []string{"--lane"}},
		{"a wrong type", oneShard + "lanes: many\n", "", "", []string{"lanes"}},
		{"a wrong duration", oneShard + "sweep_every: soon\n", "", "", []string{"sweep_every"}},
		{"no YAML", "shards: [", "", "", []string{"bad.yaml"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := []string{"serve", "--config", good, "--print-config"}
			if c.file != "" {
				args[2] = write(t, filepath.Join(folder, "bad.yaml"), c.file)
			}
			if c.flag != "" {
				args = append(args, c.flag)
			}
			printed, err := command(t, []string{c.env}, args...)
			if err == nil {
				t.Fatalf("it is taken:\n%s", printed)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

// Wrong shards are refused before anything is opened, and the message says what to write instead.
func TestWrongShards(t *testing.T) {
	for text, wants := range map[string][]string{
		"lanes: 2\n":                                                   {"no shards are configured", "{name: s1, dsn:", "statesvc dev"},
		"shards:\n  - {dsn: x}\n":                                      {"shard 1 needs a name"},
		"adjust_approval: EUR\n" + oneShard:                            {"adjust_approval", "EUR", "all"},
		"shards:\n  - {name: s1}\n":                                    {`"s1"`, "a dsn or a file"},
		"shards:\n  - {name: s1, dsn: x, file: y}\n":                   {`"s1"`, "not both"},
		"shards:\n  - {name: a, file: x}\n  - {name: a, file: y}\n":    {`two shards are called "a"`},
		"shards:\n  - {name: a, file: x}\n  - {name: \"\", file: y}\n": {"shard 2 needs a name"},
	} {
		file := write(t, filepath.Join(t.TempDir(), "c.yaml"), text)
		refused(t, []string{"serve", "--config", file}, wants...)
		refused(t, []string{"migrate", "up", "--config", file}, wants...)
	}
	refused(t, []string{"serve", "--config", "/no/such/file.yaml"}, "/no/such/file.yaml")
}
