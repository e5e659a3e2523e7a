package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"ggen.dev/marketplace/shared"
)

func TestSelfTestMakesEveryCall(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run([]string{"selftest"}, &stdout, &stderr); code != 0 || stderr.Len() > 0 {
		t.Fatalf("exit code %d\n%s%s", code, &stdout, &stderr)
	}
	contract := reflect.TypeFor[shared.Marketplace]()
	for i := range contract.NumMethod() {
		name := contract.Method(i).Name
		if !strings.Contains(stdout.String(), "\n"+name+" ") {
			t.Errorf("%s is not called:\n%s", name, &stdout)
		}
	}
}

func TestDescribeTouchesNothing(t *testing.T) {
	home := filepath.Join(t.TempDir(), "home")
	t.Setenv("GGEN_HOME", home)
	t.Setenv("HOME", home)
	var stdout, stderr bytes.Buffer
	if code := run([]string{"describe"}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d, %s", code, &stderr)
	}
	var said struct {
		Name, Version string
		Protocols     []int
		Capabilities  []string
	}
	if err := json.Unmarshal(stdout.Bytes(), &said); err != nil || said.Name != "marketplace" || said.Version == "" || len(said.Protocols) == 0 || len(said.Capabilities) == 0 {
		t.Fatalf("%s: %+v, %v", &stdout, said, err)
	}
	if _, err := os.Stat(home); !os.IsNotExist(err) {
		t.Errorf("the home was touched: %v", err)
	}
}

func TestServeRefusesNonsense(t *testing.T) {
	for _, args := range [][]string{
		{"serve"}, {"serve", "-home", "relative"}, {"serve", "-home", t.TempDir(), "-memory", "1000"}, {"serve", "-nonsense"}, {"selftest", "x"}, {},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(args, &stdout, &stderr); code != 2 || stdout.Len() > 0 || stderr.Len() == 0 {
			t.Errorf("%v: exit code %d, stdout %q, stderr %q", args, code, &stdout, &stderr)
		}
	}
}

func TestTheLogIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "engine.log")
	log, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	line := bytes.Repeat([]byte("x"), 1<<16)
	for range 300 { // 19 MiB
		if _, err := log.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + ".old"} {
		info, err := os.Stat(name)
		if err != nil || info.Size() > 4<<20 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

func TestCrashReportsAreBounded(t *testing.T) {
	home := t.TempDir()
	c, err := watchCrashes(home)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		if err := c.handlerPanicked(strings.Repeat("m", i), "a value", bytes.Repeat([]byte("s"), 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(home, "crash"))
	if err != nil || len(entries) == 0 || len(entries) > 10 {
		t.Fatalf("%d reports, %v", len(entries), err)
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err != nil || info.Size() > 256<<10 {
			t.Errorf("%s has %d bytes, %v", entry.Name(), info.Size(), err)
		}
	}
}
