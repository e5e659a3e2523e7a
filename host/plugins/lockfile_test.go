package plugins

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"ggen.dev/marketplace/shared"
)

const validLock = `# ggen writes this file: which engine is used, and what each version's files are.
schema = 1
use = "1.0.0-rc.1+b"
previous = ["0.9.0", "1.0.0"]

[[engine]]
version = "0.9.0"
protocol = 1

[engine.digests]
darwin_arm64 = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
linux_amd64 = "sha256:1111111111111111111111111111111111111111111111111111111111111111"

[[engine]]
version = "0.10.0"
protocol = 2

[engine.digests]
linux_amd64 = "sha256:2222222222222222222222222222222222222222222222222222222222222222"
`

func TestLockfileText(t *testing.T) {
	l, err := parseLockfile("plugins.lock", []byte(validLock))
	if err != nil {
		t.Fatal(err)
	}
	l.engines[0], l.engines[1] = l.engines[1], l.engines[0]
	text, err := l.text()
	if err != nil || string(text) != validLock {
		t.Fatalf("%v, wrote\n%s", err, text)
	}
}

func TestLockfilesThatAreRefused(t *testing.T) {
	engine := func(version, protocol, digests string) string {
		return "schema = 1\n[[engine]]\nversion = " + version + "\nprotocol = " + protocol + "\ndigests = " + digests + "\n"
	}
	digest := `"sha256:` + strings.Repeat("0", 64) + `"`
	for _, tc := range []struct{ name, text, says string }{
		{"nothing", "", "schema = 1"},
		{"no TOML", "schema = 1\nuse = ", "plugins.lock:2:"},
		{"a newer schema", "schema = 2\n", "newer than this ggen"},
		{"an unknown key", "schema = 1\nuses = \"1.0.0\"\n", "plugins.lock:2:1: unknown key uses"},
		{"an unknown key of an engine", engine(`"1.0.0"`, "1", "{linux_amd64 = "+digest+"}") + "evil = 1\n", "unknown key engine.evil"},
		{"another type", "schema = 1\nuse = 1\n", "plugins.lock:2:"},
		{"no version to use", "schema = 1\nuse = \"\"\n", "use:"},
		{"a range to use", "schema = 1\nuse = \"^1\"\n", "use:"},
		{"a path to use", "schema = 1\nuse = \"../../evil\"\n", "use:"},
		{"too many previous", "schema = 1\nprevious = [" + strings.Repeat(`"1.0.0",`, 11) + "]\n", "11 versions"},
		{"a previous that is no version", "schema = 1\nprevious = [\"x\"]\n", "previous:"},
		{"no version", engine(`"x"`, "1", "{}"), "not a version"},
		{"a version twice", engine(`"1.0.0"`, "1", "{linux_amd64 = "+digest+"}") + strings.TrimPrefix(engine(`"1.0.0"`, "1", "{linux_amd64 = "+digest+"}"), "schema = 1"), "occurs twice"},
		{"no protocol", engine(`"1.0.0"`, "0", "{linux_amd64 = "+digest+"}"), "protocol 0"},
		{"no digests", engine(`"1.0.0"`, "1", "{}"), "0 digests"},
		{"a digest that is none", engine(`"1.0.0"`, "1", `{linux_amd64 = "md5:1"}`), "not a platform and its digest"},
		{"a platform that is none", engine(`"1.0.0"`, "1", `{"linux amd64" = `+digest+`}`), "not a platform and its digest"},
		{"a platform twice", engine(`"1.0.0"`, "1", `{linux_amd64 = `+digest+`, linux_amd64 = `+digest+`}`), "plugins.lock:"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, err := parseLockfile("plugins.lock", []byte(tc.text))
			if !errors.Is(err, shared.ReasonLockfile) || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("got %+v, %v; want %q", l, err, tc.says)
			}
			if e := shared.AsError(err); e.Hint == "" || e.Metadata["file"] != "plugins.lock" {
				t.Fatalf("hint %q, metadata %v", e.Hint, e.Metadata)
			}
		})
	}
}

func FuzzLockfile(f *testing.F) {
	f.Add([]byte(validLock))
	f.Add([]byte("schema = 1\nuse = \"1.0.0\"\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := parseLockfile("plugins.lock", data)
		if err != nil {
			if !errors.Is(err, shared.ReasonLockfile) {
				t.Fatalf("got %v", err)
			}
			return
		}
		text, err := l.text()
		if err != nil {
			t.Fatalf("%q cannot be written again: %v", data, err)
		}
		again, err := parseLockfile("plugins.lock", text)
		if err != nil || !reflect.DeepEqual(again.engines, l.engines) || again.use != l.use || strings.Join(again.previous, " ") != strings.Join(l.previous, " ") {
			t.Fatalf("%q became %q: %v", data, text, err)
		}
	})
}

func FuzzParseName(f *testing.F) {
	f.Add("ggen-engine-marketplace_v1.2.3-rc.1+x_p12_windows_amd64.exe")
	f.Add("ggen-engine-marketplace_v1.2.3_p1_linux_amd64")
	f.Fuzz(func(t *testing.T, name string) {
		c, ok := parseName(name)
		if !ok {
			return
		}
		if !validVersion(c.Version) || c.Protocol < 1 || !platformName.MatchString(c.platform()) || strings.ContainsAny(name, "/\\ \n'\"$`") {
			t.Fatalf("%q was taken for %+v", name, c)
		}
	})
}
