package project

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestAddPack(t *testing.T) {
	for _, tc := range []struct{ name, before, after string }{
		{"an empty file", "", "[packs]\napp = { path = \"P\" }\n"},
		{"no table yet", "a = 1\n", "a = 1\n\n[packs]\napp = { path = \"P\" }\n"},
		{"no newline at the end", "a = 1", "a = 1\n\n[packs]\napp = { path = \"P\" }\n"},
		{"an empty table in the middle", "[packs] # mine\n\n[x]\ny = 1\n", "[packs] # mine\napp = { path = \"P\" }\n\n[x]\ny = 1\n"},
		{"behind the last entry", "[packs]\nb = { path = \"q\" } # keep\n# tail\n\n[x]\n", "[packs]\nb = { path = \"q\" } # keep\napp = { path = \"P\" }\n# tail\n\n[x]\n"},
		{"behind an entry of several lines", "[packs]\nb = [\n  \"]\", # [x]\n]\n[x]\n", "[packs]\nb = [\n  \"]\", # [x]\n]\napp = { path = \"P\" }\n[x]\n"},
		{"a text that looks like a table", "t = \"\"\"\n[packs]\n\"\"\"\n", "t = \"\"\"\n[packs]\n\"\"\"\n\n[packs]\napp = { path = \"P\" }\n"},
		{"the line ends of Windows", "[packs]\r\nb = 1\r\n", "[packs]\r\nb = 1\r\napp = { path = \"P\" }\r\n"},
		{"the last line of the file", "[packs]\nb = 1", "[packs]\nb = 1\napp = { path = \"P\" }\n"},
		{"tables below it", "[packs.b]\npath = \"q\"\n", "[packs.b]\npath = \"q\"\n\n[packs]\napp = { path = \"P\" }\n"},
		{"space and quotes around the name", "[ \"packs\" ]\n  b = 1\n", "[ \"packs\" ]\n  b = 1\napp = { path = \"P\" }\n"},
		{"already there", "[packs]\napp = { path = \"./P\", x = 1 }\n", "[packs]\napp = { path = \"./P\", x = 1 }\n"},
		{"already there as a table", "[packs.app]\npath = \"P\"\n", "[packs.app]\npath = \"P\"\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, kept, err := AddPack([]byte(tc.before), "app", "P")
			if err != nil || kept || string(got) != tc.after {
				t.Fatalf("%v, kept %v\n got %q\nwant %q", err, kept, got, tc.after)
			}
			again, _, err := AddPack(got, "app", "P")
			if err != nil || !bytes.Equal(again, got) {
				t.Fatalf("a second time changes it: %v %q", err, again)
			}
		})
	}
	t.Run("a dot in the name is quoted", func(t *testing.T) {
		got, _, err := AddPack(nil, "a.b", "P")
		if err != nil || !strings.Contains(string(got), "\"a.b\" = {") {
			t.Fatalf("%q, %v", got, err)
		}
	})
	t.Run("another value is the user's own", func(t *testing.T) {
		before := "[packs]\napp = { git = \"elsewhere\" }\n"
		got, kept, err := AddPack([]byte(before), "app", "P")
		if err != nil || !kept || string(got) != before {
			t.Fatalf("%q, %v, %v", got, kept, err)
		}
	})
	for name, before := range map[string]string{
		"an inline table": "packs = { b = 1 }\n", "dotted keys": "packs.b = 1\n", "an array": "[[packs]]\nb = 1\n", "a plain value": "packs = 1\n",
	} {
		t.Run("cannot be done in "+name, func(t *testing.T) {
			if got, _, err := AddPack([]byte(before), "app", "P"); !errors.Is(err, errEdit) {
				t.Fatalf("%q, %v", got, err)
			}
		})
	}
}

func TestRemovePack(t *testing.T) {
	for _, tc := range []struct {
		name, before, after string
		kept                bool
	}{
		{"the line that was added", "[packs]\n# c\napp = { path = \"P\" }\nb = 1\n", "[packs]\n# c\nb = 1\n", false},
		{"an entry of several lines", "[packs]\napp = { path = \"P\", x = [\n1,\n] } # gone\nb = 1\n", "[packs]\nb = 1\n", false},
		{"the last line of the file", "[packs]\napp = { path = \"P\" }", "[packs]\n", false},
		{"nothing to remove", "a = 1\n", "a = 1\n", false},
		{"another value stays", "[packs]\napp = { path = \"Q\" }\n", "[packs]\napp = { path = \"Q\" }\n", true},
		{"a table stays", "[packs.app]\npath = \"P\"\n", "[packs.app]\npath = \"P\"\n", true},
		{"an inline table stays", "packs = { app = { path = \"P\" } }\n", "packs = { app = { path = \"P\" } }\n", true},
		{"a dotted key stays", "[packs]\napp.path = \"P\"\n", "[packs]\napp.path = \"P\"\n", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, kept, err := RemovePack([]byte(tc.before), "app", "P")
			if err != nil || kept != tc.kept || string(got) != tc.after {
				t.Fatalf("%v, kept %v\n got %q\nwant %q", err, kept, got, tc.after)
			}
		})
	}
}

// TestPackEditsAreInverse: adding and removing leaves the file as it was, apart
// from an empty [packs] at its end, and never loses a line of it.
func TestPackEditsAreInverse(t *testing.T) {
	lines := []string{"# comment", "", "a = 1", "[project]", "name = \"x\" # y", "[packs]", "b = { path = \"q\" }", "[[list]]", "[packs.c]", "d = [\n 1, # ]\n]", "  e = '''\n[packs]\n'''", "\t"}
	rapid.Check(t, func(t *rapid.T) {
		before := strings.Join(rapid.SliceOf(rapid.SampledFrom(lines)).Draw(t, "lines"), "\n")
		if rapid.Bool().Draw(t, "newline") {
			before += "\n"
		}
		name := rapid.StringMatching(`[a-z0-9][a-z0-9._-]{0,10}`).Draw(t, "name")
		added, kept, err := AddPack([]byte(before), name, packPath(name))
		if err != nil || kept {
			return // not TOML, or not ours to edit; TestAddPack says which
		}
		if bytes.Equal(added, []byte(before)) {
			return
		}
		removed, kept, err := RemovePack(added, name, packPath(name))
		if err != nil || kept {
			t.Fatalf("cannot be removed again: %v, %v\n%s", kept, err, added)
		}
		got := strings.TrimRight(string(removed), "\n")
		want := strings.TrimRight(before, "\n")
		if got != want && strings.TrimRight(strings.TrimSuffix(got, "[packs]"), "\n") != want {
			t.Fatalf("got  %q\nwant %q", got, want)
		}
	})
}

func FuzzPacks(f *testing.F) {
	for _, seed := range []string{"", "[packs]\na = 1\n", "packs = {}", "\xef\xbb\xbf[packs]", "[packs]\r\n\"app\" = { path = '.ggen/packages/app' }", "[packs]\napp.path = 1", "x = \"\"\"\n[packs]"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		added, kept, err := AddPack(data, "app", packPath("app"))
		if err != nil || kept {
			return
		}
		document, err := decode(added)
		if err != nil {
			t.Fatalf("the result is no TOML: %v\n%q", err, added)
		}
		if value, exists := packOf(document, "app"); !exists || !pointsTo(value, packPath("app")) {
			t.Fatalf("it is not there: %v\n%q", value, added)
		}
		if removed, _, err := RemovePack(added, "app", packPath("app")); err != nil {
			t.Fatalf("remove: %v\n%q", err, removed)
		}
	})
}

func FuzzParseSettings(f *testing.F) {
	for _, seed := range []string{"", "[marketplace]\nlisten = [\"/a\"]\ndht_server = true\nidle_stop = \"1m\"", "[marketplace]\nlisten = 1", "marketplace = []", "[marketplace]\nidle_stop = \"-1s\""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := ParseSettings("config.toml", data)
		if err == nil && g.IdleStop != nil && *g.IdleStop <= 0 {
			t.Fatalf("idle_stop = %s", *g.IdleStop)
		}
	})
}

func FuzzParseReceipt(f *testing.F) {
	f.Add([]byte(`{"format":1,"name":"app","requested":true}`))
	f.Add([]byte(`{"format":1,"name":"other"}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseReceipt("app", data)
		if err == nil && (r.Name != "app" || r.Format != receiptFormat) {
			t.Fatalf("%+v", r)
		}
	})
}
