package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ggen.dev/marketplace/shared"
)

// update rewrites golden files and generated documents instead of comparing.
var update = flag.Bool("update", false, "rewrite golden files and docs/CLI.md")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"ggen": func() { os.Exit(int(realMain(folderEngines{os.Getenv}))) },
	})
}

// TestScripts runs the commands against an engine whose network is a folder.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("TEST_NETWORK", filepath.Join(env.WorkDir, "network"))
			env.Setenv("PLATFORM", runtime.GOOS+"/"+runtime.GOARCH)
			// The race detector lets every process sleep for a second when it ends.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			return setHome(env)
		},
		Cmds: scriptCommands,
	})
}

func setHome(env *testscript.Env) error {
	env.Setenv("GGEN_HOME", filepath.Join(env.WorkDir, "home"))
	env.Setenv("HOME", filepath.Join(env.WorkDir, "user"))
	return os.MkdirAll(filepath.Join(env.WorkDir, "user"), 0o700)
}

var scriptCommands = map[string]func(*testscript.TestScript, bool, []string){
	"engine":   engineCommand,
	"exitcode": exitCodeCommand,
	"onejson":  oneJSONCommand,
	"waitfile": waitFileCommand,
}

// exitCodeCommand runs a program and compares its exit code: exitcode CODE COMMAND...
// Its output goes to the files out and err in the work folder.
func exitCodeCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	code := 0
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s\n%s", code, args[0], ts.ReadFile("stderr"))
	}
}

// oneJSONCommand checks that standard output is one line with one JSON document,
// and that values in it are as expected: onejson [PATH=VALUE]... A path is keys and
// indices with dots between them.
func oneJSONCommand(ts *testscript.TestScript, neg bool, args []string) {
	text := ts.ReadFile("stdout")
	if strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") {
		ts.Fatalf("standard output is not one line: %q", text)
	}
	var document any
	decoder := json.NewDecoder(strings.NewReader(text))
	if err := decoder.Decode(&document); err != nil {
		ts.Fatalf("not JSON: %v: %q", err, text)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		ts.Fatalf("more than one document: %q", text)
	}
	for _, arg := range args {
		path, want, _ := strings.Cut(arg, "=")
		got := fmt.Sprint(valueAt(ts, document, strings.Split(path, ".")))
		if (got == want) == neg {
			ts.Fatalf("%s is %q, want %q (negated: %v)\n%s", path, got, want, neg, text)
		}
	}
}

func valueAt(ts *testscript.TestScript, value any, path []string) any {
	for _, key := range path {
		switch v := value.(type) {
		case map[string]any:
			inner, ok := v[key]
			if !ok {
				ts.Fatalf("there is no %s", key)
			}
			value = inner
		case []any:
			if key == "len" {
				value = len(v)
				continue
			}
			var i int
			if _, err := fmt.Sscan(key, &i); err != nil || i >= len(v) {
				ts.Fatalf("there is no %s in a list of %d", key, len(v))
			}
			value = v[i]
		default:
			ts.Fatalf("there is no %s in %v", key, value)
		}
	}
	return value
}

// waitFileCommand waits until a file exists: waitfile NAME.
func waitFileCommand(ts *testscript.TestScript, neg bool, args []string) {
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, err := os.Stat(ts.MkAbs(args[0]))
		if (err == nil) != neg {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s: waited in vain", args[0])
		}
		<-time.After(5 * time.Millisecond)
	}
}

// TestEveryReasonHasAnExitCode is the promise that scripts rely on.
func TestEveryReasonHasAnExitCode(t *testing.T) {
	documented := map[exitCode]bool{}
	for _, e := range exitMeanings {
		documented[e.code] = true
	}
	for _, reason := range shared.Reasons() {
		code, known := exitCodes[reason]
		if !known {
			t.Errorf("%s has no exit code", reason)
		}
		if !documented[code] || code == exitDone {
			t.Errorf("%s ends with %d, which is not documented as a failure", reason, code)
		}
	}
	for reason := range exitCodes {
		if !slices.Contains(shared.Reasons(), reason) {
			t.Errorf("%s has an exit code and is no reason of the contract", reason)
		}
	}
	if codeOf("FROM_THE_FUTURE") != exitInternal {
		t.Error("an unknown reason does not end as an internal error")
	}
}

// TestHostKnowsNoNetwork keeps the host free of the engine's libraries, whatever
// it imports indirectly.
func TestHostKnowsNoNetwork(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		for _, banned := range []string{"github.com/libp2p/", "github.com/multiformats/", "go.etcd.io/", "ggen.dev/marketplace/p2p", "ggen.dev/marketplace/plugin"} {
			if strings.HasPrefix(dep+"/", banned) {
				t.Errorf("the host depends on %s: a crash in networking code must never take the generator down", dep)
			}
		}
	}
}

// buffer is a bytes.Buffer that a process and a test may use at once.
type buffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
