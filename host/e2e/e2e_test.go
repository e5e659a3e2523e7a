// Package e2e tests what users have: the built `ggen` and the built engine, as
// processes, with real peers on loopback. The scripts in testdata are its
// specification.
package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"ggen.dev/marketplace/shared"
)

// bin is the folder with the two binaries, built once; source is where they were
// built, and goEnv how.
var (
	bin    string
	source string
	goEnv  map[string]string
)

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ggen-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	bin = dir
	out, err := exec.Command("go", "env", "-json", "GOCACHE", "GOMODCACHE", "GOFLAGS", "GOPROXY").Output()
	if err == nil {
		err = json.Unmarshal(out, &goEnv)
	}
	if err == nil {
		source, err = os.Getwd()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	engine := filepath.Join(dir, fmt.Sprintf("ggen-engine-marketplace_v0.1.0_p1_%s_%s", runtime.GOOS, runtime.GOARCH))
	for pkg, out := range map[string]string{"host": filepath.Join(dir, "ggen"), "plugin": engine} {
		if text, err := exec.Command("go", "build", "-o", out, "ggen.dev/marketplace/"+pkg).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", pkg, err, text)
			return 1
		}
	}
	if err := os.Symlink("ggen", filepath.Join(dir, "ggen-marketplace")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	data, err := os.ReadFile(engine)
	if err == nil {
		err = os.WriteFile(engine+".sha256", []byte(shared.DigestOf(data).Hex()+"  "+filepath.Base(engine)+"\n"), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// homes are the peers that a script may use, as $A, $B, $C and $D.
var homes = []string{"A", "B", "C", "D"}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata", RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			// Short paths: sockets lie below the homes.
			dir, err := os.MkdirTemp("", "gg")
			if err != nil {
				return err
			}
			for _, name := range homes {
				env.Setenv(name, filepath.Join(dir, name))
			}
			env.Setenv("PATH", bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
			env.Setenv("GGEN_P2P_LISTEN", "/ip4/127.0.0.1/tcp/0,/ip4/127.0.0.1/udp/0/quic-v1")
			env.Setenv("NO_COLOR", "1")
			// For the go command, which a script's own home has nothing of.
			for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOFLAGS", "GOPROXY"} {
				env.Setenv(name, goEnv[name])
			}
			env.Setenv("SOURCE", source)
			env.Defer(func() { leave(t, dir) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"as": as, "address": address, "until": until, "killengine": killEngine, "engine": secondEngine, "publisher": publisherOf},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Getuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %s", cond)
		},
	})
}

// leave stops every engine that a script left and fails if one cannot be stopped.
func leave(t *testing.T, dir string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, name := range homes {
		cmd := exec.CommandContext(ctx, filepath.Join(bin, "ggen"), "marketplace", "p2p", "stop")
		cmd.Env = append(os.Environ(), "GGEN_HOME="+filepath.Join(dir, name))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("stop the engine of %s: %v\n%s", name, err, out)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
}

// as runs `ggen marketplace` as a peer: as PEER CODE ARGS... expects that exit code.
func as(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: as PEER CODE ARGS...")
	}
	if code := run(ts, args[0], args[2:]); fmt.Sprint(code) != args[1] {
		ts.Fatalf("exit code %d, want %s", code, args[1])
	}
}

func run(ts *testscript.TestScript, peer string, args []string) int {
	if !slices.Contains(homes, peer) {
		ts.Fatalf("there is no peer %s", peer)
	}
	ts.Setenv("GGEN_HOME", ts.Getenv(peer))
	// By the name that other programs use.
	err := ts.Exec("ggen-marketplace", args...)
	if slices.Contains(args, "--json") {
		checkDocument(ts, args, err != nil)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	ts.Check(err)
	return 0
}

// checkDocument validates what a command printed against its schema, or, if it
// failed, perhaps against that of failures.
func checkDocument(ts *testscript.TestScript, args []string, failed bool) {
	text := ts.ReadFile("stdout")
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil || strings.Count(text, "\n") != 1 {
		ts.Fatalf("standard output is not one line with one document: %v: %q", err, text)
	}
	files := []string{schemaOf(args)}
	if failed {
		files = []string{filepath.Join(schemas, "error.json"), schemaOf(args)}
	}
	var refused error
	for _, file := range files {
		schema, err := jsonschema.NewCompiler().Compile(file)
		ts.Check(err)
		if err = schema.Validate(document); err == nil {
			return
		}
		refused = errors.Join(refused, err)
	}
	ts.Fatalf("the document of %v is not as its schema says: %v\n%s", args, refused, text)
}

// schemas is where the schemas of the documents are.
var schemas = filepath.Join("..", "..", "docs", "schemas")

// schemaOf is the file for a command, whose name has one word or several.
func schemaOf(args []string) string {
	if slices.Contains(args, "--proof") {
		return filepath.Join(schemas, "info-proof.json")
	}
	for words := len(args); words > 1; words-- {
		file := filepath.Join(schemas, strings.Join(args[:words], "-")+".json")
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	return filepath.Join(schemas, args[0]+".json")
}

// until repeats a command that has to succeed sooner or later and to print
// something: until PEER TEXT ARGS...
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: until PEER TEXT ARGS...")
	}
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if run(ts, args[0], args[2:]) == 0 && strings.Contains(ts.ReadFile("stdout"), args[1]) {
			return
		}
		select {
		case <-deadline.C:
			ts.Fatalf("waited in vain for %q", args[1])
		case <-tick.C:
		}
	}
}

type status struct {
	Publisher       string   `json:"publisher"`
	ListenAddresses []string `json:"listen_addresses"`
	EnginePID       int      `json:"engine_pid"`
}

func statusOf(ts *testscript.TestScript, peer string) status {
	if code := run(ts, peer, []string{"p2p", "status", "--json"}); code != 0 {
		ts.Fatalf("status of %s: exit code %d", peer, code)
	}
	var st status
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &st))
	return st
}

// publisherOf puts a peer's publisher ID into a variable: publisher PEER VARIABLE.
func publisherOf(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[1], statusOf(ts, args[0]).Publisher)
}

// address puts a peer's first address into a variable: address PEER VARIABLE.
func address(ts *testscript.TestScript, _ bool, args []string) {
	full := statusOf(ts, args[0]).ListenAddresses[0]
	ts.Setenv(args[1], full)
	ts.Setenv(args[1]+"_ID", full[strings.LastIndex(full, "/")+1:])
}

// secondEngine puts a real engine of a version into a folder, with its checksum:
// engine FOLDER VERSION. Its path is then in $engine.
func secondEngine(ts *testscript.TestScript, _ bool, args []string) {
	name := fmt.Sprintf("ggen-engine-marketplace_v%s_p1_%s_%s", args[1], runtime.GOOS, runtime.GOARCH)
	path := filepath.Join(ts.MkAbs(args[0]), name)
	ts.Check(ts.Exec("go", "build", "-C", ts.Getenv("SOURCE"), "-ldflags", "-X main.version="+args[1], "-o", path, "ggen.dev/marketplace/plugin"))
	data, err := os.ReadFile(path)
	ts.Check(err)
	ts.Check(os.WriteFile(path+".sha256", []byte(shared.DigestOf(data).Hex()+"  "+name+"\n"), 0o600))
	ts.Setenv("engine", path)
}

// killEngine kills a peer's engine without warning: killengine PEER.
func killEngine(ts *testscript.TestScript, _ bool, args []string) {
	process, err := os.FindProcess(statusOf(ts, args[0]).EnginePID)
	ts.Check(err)
	ts.Check(process.Kill())
}
