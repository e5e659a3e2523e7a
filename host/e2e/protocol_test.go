package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"ggen.dev/marketplace/shared"
)

// TestProtocolVersions: a host and an engine of this version of the protocol, and
// a host and an engine of one further version (shared/rpc/protocol_next.go), as
// real programs, both ways.
func TestProtocolVersions(t *testing.T) {
	const tag = "ggen_next_protocol"
	platform := "_" + runtime.GOOS + "_" + runtime.GOARCH
	dir := t.TempDir()
	nextHost := filepath.Join(dir, "nexthost")
	nextEngine := filepath.Join(dir, "next", "ggen-engine-marketplace_v0.2.0_p2"+platform)
	buildTagged(t, tag, nextHost, "./testdata/nexthost")
	buildTagged(t, tag, nextEngine, "ggen.dev/marketplace/plugin")
	data, err := os.ReadFile(nextEngine)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(nextEngine+".sha256", []byte(shared.DigestOf(data).Hex()+"  x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// `ggen` finds the old engine beside itself too: this one stands alone.
	oldHost := filepath.Join(dir, "ggen")
	copyProgram(t, filepath.Join(bin, "ggen"), oldHost)

	old := func(t *testing.T, home string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), oldHost, append([]string{"marketplace"}, args...)...)
		cmd.Env = append(os.Environ(), "GGEN_HOME="+home, "GGEN_P2P_LISTEN=/ip4/127.0.0.1/tcp/0")
		cmd.Dir = dir
		out, _ := cmd.Output() // failures are documents too
		return string(out)
	}
	next := func(t *testing.T, home, plugins string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), nextHost, home, plugins).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	home := func(t *testing.T) string {
		t.Helper()
		home, err := os.MkdirTemp("", "gg")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			old(t, home, "p2p", "stop")
			_ = os.RemoveAll(home)
		})
		return home
	}
	newDir := filepath.Dir(nextEngine)

	t.Run("old host, new engine", func(t *testing.T) {
		h := home(t)
		if out := old(t, h, "search", "--json", "--plugin-dir", newDir); !strings.Contains(out, `"total":0`) {
			t.Errorf("search: %s", out)
		}
		var failure struct {
			Error struct {
				Reason, Message, Hint string
				Metadata              map[string]string
			}
		}
		out := old(t, h, "info", "next-reason", "--json", "--plugin-dir", newDir)
		if err := json.Unmarshal([]byte(out), &failure); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if e := failure.Error; e.Reason != "NEXT_REASON" || !strings.Contains(e.Message, "no word for") || e.Hint != "a hint from the future" || e.Metadata["key"] != "value" {
			t.Errorf("an unknown reason arrives as %+v", e)
		}
		if out := next(t, h, newDir); !strings.Contains(out, "engine: 0.2.0 [1 2]") || !strings.Contains(out, "greet: hello world") {
			t.Errorf("the new host on the engine that the old one started: %s", out)
		}
	})
	t.Run("new host, old engine", func(t *testing.T) {
		h := home(t)
		out := next(t, h, bin)
		if !strings.Contains(out, "engine: 0.1.0 [1]") || !strings.Contains(out, "search: 0 <nil>") || !strings.Contains(out, "greet: UNIMPLEMENTED this engine is older than ggen") {
			t.Errorf("%s", out)
		}
		if out := old(t, h, "search", "--json", "--plugin-dir", bin); !strings.Contains(out, `"total":0`) {
			t.Errorf("the old host on the engine that the new one started: %s", out)
		}
	})
	t.Run("both engines: each host takes the newest that it can speak to", func(t *testing.T) {
		h := home(t)
		out := old(t, h, "plugin", "list", "--json", "--plugin-dir", newDir, "--plugin-dir", bin)
		if !strings.Contains(out, "0.1.0") || !strings.Contains(out, "0.2.0") {
			t.Errorf("list: %s", out)
		}
		old(t, h, "search", "--plugin-dir", newDir, "--plugin-dir", bin)
		if out := old(t, h, "version", "--json"); out == "" {
			t.Error("no version")
		}
		if out := next(t, h, newDir); !strings.Contains(out, "engine: 0.2.0") {
			t.Errorf("the old host did not use the newer engine, which speaks its protocol too: %s", out)
		}
	})
}

func buildTagged(t *testing.T, tag, out, pkg string) {
	t.Helper()
	args := []string{"build", "-tags", tag, "-ldflags", "-X main.version=0.2.0", "-o", out, pkg}
	if text, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, text)
	}
}

func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}
