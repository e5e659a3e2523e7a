package render

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"ggen.dev/marketplace/shared"
)

func TestClean(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"plain text", "a b", "a b"},
		{"other scripts and emoji", "日本語 naïve 👩\u200d💻 می\u200cخواهم", "日本語 naïve 👩\u200d💻 می\u200cخواهم"},
		{"colours", "\x1b[31mred\x1b[0m", "[31mred[0m"},
		{"a terminal's title", "\x1b]0;x\x07", "]0;x"},
		{"C1 controls", "a\u009b31mb", "a31mb"},
		{"lines", "a\nb\r\nc\td\u2028e\u0085f", "a b c d e f"},
		{"direction", "a\u202eb\u2066c\u200fd\u061ce", "abcde"},
		{"what is not seen", "a\u200bb\ufeffc\u00add\U000e0041e", "abcde"},
		{"invalid UTF-8", "a\xffb", "ab"},
		{"space at the ends", "  a  ", "a"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := Clean(tc.in); got != tc.want {
				t.Fatalf("Clean(%q) = %q, want %q", tc.in, got, tc.want)
			}
		})
	}
}

func FuzzClean(f *testing.F) {
	for _, seed := range []string{"a\x1b[0m", "\u202e\u2066", "\xff\n\r\t", "👩‍💻", "\u2028x\u0085"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		clean := Clean(text)
		if !utf8.ValidString(clean) || strings.ContainsFunc(clean, unsafe) || Clean(clean) != clean {
			t.Fatalf("Clean(%q) = %q", text, clean)
		}
		// The JSON form keeps the meaning and is as harmless.
		line, err := encode(map[string]string{"v": text})
		if err != nil {
			t.Fatal(err)
		}
		var back map[string]string
		if err := json.Unmarshal(line, &back); err != nil || back["v"] != strings.ToValidUTF8(text, "\ufffd") && utf8.ValidString(text) {
			t.Fatalf("%q became %q: %v", text, back["v"], err)
		}
		if strings.ContainsFunc(strings.TrimSuffix(string(line), "\n"), unsafe) || bytes.Count(line, []byte("\n")) != 1 {
			t.Fatalf("%q", line)
		}
	})
}

func hostile() string { return "\x1b[2J\u202eevil\nsecond\u009b" }

// documents are all documents, filled with hostile text.
func documents() []Document {
	h := hostile()
	summary := shared.PackageSummary{Name: h, Version: h, Title: h, Description: h, Author: h, Category: h, License: h, Tags: []string{h}, Publisher: shared.PublisherID(h)}
	installed := shared.InstalledPackage{LockedPackage: shared.LockedPackage{Name: h, Version: h, Dependencies: []string{h}, Publisher: shared.PublisherID(h)}, Path: h, Title: h, FirstUse: true}
	warning := []shared.Diagnostic{{Severity: shared.SeverityWarning, Message: h, Hint: h}}
	return []Document{
		NewSearch(shared.SearchResult{Packages: []shared.PackageSummary{summary}, Total: 2, Diagnostics: warning}),
		NewInfo(shared.PackageDetails{
			PackageSummary: summary, Keywords: []string{h}, Repository: h, Dependencies: []shared.Dependency{{Name: h, Constraint: h, Publisher: shared.PublisherID(h)}},
			Versions: []shared.VersionInfo{{Version: h, Yanked: true}}, Extra: map[string]string{h: h}, PinnedTo: shared.PublisherID(h),
		}),
		NewPublish(shared.PublishReceipt{Package: h, Version: h, Files: []shared.FileInfo{{Path: h, Executable: true}}, DryRun: true}, true),
		NewInstall(shared.InstallReceipt{Packages: []shared.InstalledPackage{installed}}, InstallFacts{First: h, Root: h, Saved: []string{h}}),
		List{Packages: []Listed{{Name: h, Title: h, Description: h, Version: h}}, Root: h},
		Remove{Removed: []Removed{{Name: h, Version: h}}},
		NewVerify(shared.VerifyReport{Packages: []shared.VerifyResult{{Name: h, Version: h, Modified: []string{h}, Missing: []string{h}, Extra: []string{h}, Problem: h}}}),
		NewStarted(shared.NodeStatus{PeerID: h, ListenAddresses: []string{h}}, shared.EngineInfo{Version: h}, true),
		Stopped{Stopped: true},
		NotRunning(),
		NewStatus(shared.NodeStatus{PeerID: h, ListenAddresses: []string{h}, DHTMode: h, Reachability: h, Version: h, StartedAt: time.Unix(1, 0)}, shared.EngineInfo{}, time.Unix(2, 0)),
		NewPeers(shared.PeerList{Peers: []shared.Peer{{ID: h, Addresses: []string{h}, Agent: h}}}),
		NewPeer(shared.Peer{
			ID: h, Addresses: []string{h}, Agent: h, LastSeen: time.Unix(1, 0), LastFailure: time.Unix(1, 0), LastFailureKind: h, BannedUntil: time.Unix(1, 0), BannedFor: h,
			Score: []shared.ScorePart{{Name: h}}, Outcomes: map[string]int64{h: 1}, Location: &shared.Location{Region: h},
		}).WithHistory(),
		NewBootstrap([]shared.DialOutcome{{Address: h, PeerID: h, Err: shared.NewError(shared.ReasonTimeout, "%s", h)}, {Address: h}}),
		Plugins{Plugins: []Plugin{{Path: h, Version: h, Why: h, Source: h, OS: h, Arch: h, Signature: h, Fix: h}}},
		PluginVerify{Plugins: []VerifiedPlugin{{Path: h, Version: h, Problem: h, Fix: h, OS: h}, {Path: h, OK: true}}},
		InstalledPlugin{Plugin{Path: h, Version: h, Why: h}},
		UsedPlugin{Version: h, PreviousVersion: h + "x", Path: h, Swapped: true},
		PinnedPlugin{Pinned: true, Version: h, File: h, Platforms: []string{h}},
		PinnedPlugin{Version: h, File: h},
		RemovedPlugin{Version: h, Removed: []string{h}},
		About{Version: h, Engine: h},
	}
}

// TestDocumentsAreHarmless: nothing that others wrote gets to act on a terminal.
func TestDocumentsAreHarmless(t *testing.T) {
	for _, doc := range documents() {
		t.Run(reflect.TypeOf(doc).Name(), func(t *testing.T) {
			for _, o := range []Output{{}, {JSON: true}, {Quiet: true}, {Verbose: true}, {Width: 40}} {
				var out bytes.Buffer
				o.Out, o.Err = &out, &out
				if err := o.Print(doc); err != nil {
					t.Fatal(err)
				}
				for line := range strings.Lines(out.String()) {
					if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), unsafe) {
						t.Fatalf("JSON %v: %q", o.JSON, line)
					}
				}
				if strings.Contains(out.String(), "\nsecond") {
					t.Fatalf("a line of its own: %q", out.String())
				}
				if o.JSON && strings.Count(out.String(), "\n") != 1 {
					t.Fatalf("JSON of several lines: %q", out.String())
				}
			}
		})
	}
}

// TestJSONHasNoNull but for times that never were.
func TestJSONHasNoNull(t *testing.T) {
	for _, doc := range []Document{
		NewSearch(shared.SearchResult{}), NewInfo(shared.PackageDetails{}), NewPublish(shared.PublishReceipt{}, false),
		NewInstall(shared.InstallReceipt{Packages: make([]shared.InstalledPackage, 1)}, InstallFacts{}), NewVerify(shared.VerifyReport{Packages: make([]shared.VerifyResult, 1)}),
		NewStarted(shared.NodeStatus{}, shared.EngineInfo{}, false), NewStatus(shared.NodeStatus{}, shared.EngineInfo{}, time.Time{}), NewPeers(shared.PeerList{}), NewPeer(shared.Peer{}), NewBootstrap(nil),
	} {
		line, err := encode(doc)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]any
		if err := json.Unmarshal(line, &fields); err != nil {
			t.Fatal(err)
		}
		times := timeFields(doc)
		for name, value := range fields {
			if value == nil && !slices.Contains(times, name) {
				t.Errorf("%T: %s is null", doc, name)
			}
		}
	}
}

// timeFields are the JSON names of a document's fields that are times or null.
func timeFields(doc Document) (names []string) {
	for _, field := range reflect.VisibleFields(reflect.TypeOf(doc)) {
		if field.Type == reflect.TypeFor[*time.Time]() {
			names = append(names, field.Tag.Get("json"))
		}
	}
	return names
}

func TestRemarksAndErrors(t *testing.T) {
	failure := shared.NewError(shared.ReasonTimeout, "no\x1b answer").WithHint("first\nsecond").With("peer", "x\u202e")
	for _, tc := range []struct {
		name   string
		o      Output
		out    string
		err    string
		result bool
	}{
		{"for a person", Output{}, "", "error: no answer\nhint: first\n  second\n", false},
		{"in detail", Output{Verbose: true}, "", "error: no answer\nhint: first\n  second\nreason: TIMEOUT\n  peer: x\n", false},
		{"for a script", Output{JSON: true}, `{"error":{"reason":"TIMEOUT","message":"no\u001b answer","hint":"first\nsecond","retryable":true,"metadata":{"peer":"x\u202e"}}}` + "\n", "error: no answer\nhint: first\n  second\n", false},
		{"when the result was printed", Output{JSON: true}, "", "error: no answer\nhint: first\n  second\n", true},
		{"with colours", Output{ColorErr: true}, "", "\x1b[31;1merror:\x1b[0;22m no answer\n\x1b[36;1mhint:\x1b[0;22m first\n  second\n", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out, err bytes.Buffer
			tc.o.Out, tc.o.Err = &out, &err
			if failed := tc.o.Fail(failure, tc.result); failed != nil {
				t.Fatal(failed)
			}
			if out.String() != tc.out || err.String() != tc.err {
				t.Fatalf("out %q\nerr %q", out.String(), err.String())
			}
		})
	}
	t.Run("quiet keeps warnings", func(t *testing.T) {
		var err bytes.Buffer
		o := Output{Err: &err, Quiet: true}
		o.Remarks([]shared.Diagnostic{{Severity: shared.SeverityInfo, Message: "info", Hint: "x"}, {Severity: shared.SeverityWarning, Message: "careful", Hint: "y"}})
		if err.String() != "warning: careful\nhint: y\n" {
			t.Fatalf("%q", err.String())
		}
	})
}

func TestTableFitsTheTerminal(t *testing.T) {
	for _, tc := range []struct {
		name  string
		width int
		cell  string
		want  string
	}{
		{"no terminal", 0, strings.Repeat("x", 200), strings.Repeat("x", 200)},
		{"it fits", 10, "1234567", "1234567"},
		{"it does not", 10, "12345678", "123456…"},
		{"wide letters", 10, "日本語", "日本語"},
		{"too many wide letters", 10, "日本語本", "日本語…"},
		{"no room at all", 1, "x", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			p := &Page{Output: &Output{Width: tc.width, Quiet: true}, b: &out}
			p.Table([]string{"A", "B"}, [][]string{{"a", tc.cell}})
			want := "a  " + tc.want + "\n"
			if tc.width == 1 {
				want = "…\n"
			}
			if out.String() != want {
				t.Fatalf("%q, want %q", out.String(), want)
			}
		})
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 20: "5.0 MiB", 1 << 60: "1024.0 PiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestProgress(t *testing.T) {
	defer goleak.VerifyNone(t)
	step := func(done int64) shared.Progress {
		return shared.Progress{Phase: shared.PhaseFetch, Package: "app@1\x1b", Done: done, Total: 10 << 20}
	}
	for _, tc := range []struct {
		name  string
		o     Output
		lasts time.Duration
		drawn bool
	}{
		{"a long call on a terminal", Output{Terminal: true}, 2 * time.Second, true},
		{"a short one", Output{Terminal: true}, 400 * time.Millisecond, false},
		{"no terminal", Output{}, time.Minute, false},
		{"quiet", Output{Terminal: true, Quiet: true}, time.Minute, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var err bytes.Buffer
				tc.o.Err = &err
				p := tc.o.NewProgress()
				p.Report(shared.Progress{Phase: shared.PhaseResolve})
				p.Report(step(1 << 20))
				<-time.After(tc.lasts)
				p.Report(step(5 << 20))
				p.Report(step(10 << 20))
				p.Report(shared.Progress{Phase: shared.PhaseUnpack, Package: "app@1"})
				p.Close()
				p.Close()
				p.Report(step(1))
				if drawn := strings.Contains(err.String(), "fetch app@1"); drawn != tc.drawn || !tc.drawn && err.Len() > 0 {
					t.Fatalf("drawn %v, want %v: %q", drawn, tc.drawn, err.String())
				}
			})
		})
	}
}
