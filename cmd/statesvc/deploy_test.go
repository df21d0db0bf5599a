package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

const deployFolder = "../../deploy"

// The example files are read by whom they are for.
func TestDeployFilesAreRead(t *testing.T) {
	agent := defaultAgent()
	if err := readStrictly(filepath.Join(deployFolder, "agent.yaml"), &agent, defaultAgent()); err != nil {
		t.Error(err)
	}
	if settings, err := agent.needed(); err != nil || len(settings) == 0 {
		t.Errorf("agent.yaml: %d settings: %v", len(settings), err)
	}
	controller, err := loadControllerConfig(filepath.Join(deployFolder, "controller.yaml"))
	if err != nil {
		t.Error(err)
	}
	boot, err := loadBootstrapConfig(filepath.Join(deployFolder, "bootstrap.yaml"))
	if err != nil {
		t.Error(err)
	}
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	configFlags(flags)
	if err := flags.Set("config", filepath.Join(deployFolder, "instance.yaml")); err != nil {
		t.Fatal(err)
	}
	instance, err := loadConfig(flags, nil)
	if err != nil {
		t.Error(err)
	}
	// They are of one cluster.
	first := boot.Shards[0].Nodes[0]
	if agent.Register != boot.Register || instance.Register != boot.Register || first.Name != agent.Node || first.Address != agent.Address {
		t.Error("agent, instance and bootstrap do not fit together")
	}
	if controller.Database.Password != agent.Database.Password || !strings.Contains(instance.Shards[0].DSN, agent.Database.AppPassword) ||
		!strings.Contains(instance.Shards[0].Feed, "feed:"+agent.Database.FeedPassword+"@") {
		t.Error("the passwords do not fit together")
	}
	if !strings.Contains(boot.Register, strings.TrimPrefix(controller.Register.Endpoints[0], "http://")) {
		t.Error("the controller has another register")
	}
}

// A unit starts a command that exists, with a file that exists.
func TestDeployUnits(t *testing.T) {
	units, err := filepath.Glob(filepath.Join(deployFolder, "*.service"))
	if err != nil || len(units) != 3 {
		t.Fatalf("%v: %v", units, err)
	}
	commands := map[string]bool{}
	p := &program{}
	for _, c := range []interface{ Name() string }{p.agent(), p.controller(), p.serve()} {
		commands[c.Name()] = true
	}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		_, line, _ := strings.Cut(string(text), "ExecStart=/usr/local/bin/statesvc ")
		words := strings.Fields(line)
		if len(words) < 3 || !commands[words[0]] {
			t.Fatalf("%s starts %q", unit, words)
		}
		if _, err := os.Stat(filepath.Join(deployFolder, filepath.Base(words[2]))); err != nil {
			t.Error(err)
		}
	}
}

// A file with a mistake is refused with what is wrong, before anything is done.
func TestBootstrapConfigIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"register: data/register\n":            "etcd://",
		"register: etcd://a:1/x\n":             "database.password",
		"register: etcd://a:1/x\nregistr: y\n": `no setting "registr"`,
		"register: etcd://a:1/x\ndatabase: {password: a, repl_password: b, migrate_password: c}\n": "no shards",
		"register: etcd://a:1/x\ndatabase: {password: a, repl_password: b, migrate_password: c}\n" +
			"shards: [{name: s1, nodes: [{name: n1, address: 'a:1'}]}]\n": "without a replica",
	} {
		path := filepath.Join(t.TempDir(), "bootstrap.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadBootstrapConfig(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
