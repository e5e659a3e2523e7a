package resolve_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"
	"pgregory.net/rapid"

	"ggen.dev/marketplace/p2p/resolve"
	"ggen.dev/marketplace/shared"
)

// universe maps name@version to its requirements ("name range"); a version that
// ends in "!" is yanked.
type universe map[string][]string

func (u universe) Versions(_ context.Context, name, publisher string) ([]resolve.Version, string, error) {
	var versions []resolve.Version
	for key, needs := range u {
		n, v, _ := strings.Cut(key, "@")
		if n != name {
			continue
		}
		version := resolve.Version{Yanked: strings.HasSuffix(v, "!"), Version: semver.MustParse(strings.TrimSuffix(v, "!"))}
		for _, need := range needs {
			version.Requires = append(version.Requires, requirement(need))
		}
		versions = append(versions, version)
	}
	if len(versions) == 0 {
		return nil, "", shared.NewError(shared.ReasonNotFound, "nobody knows %s", name)
	}
	if publisher == "" {
		publisher = "anybody"
	}
	return versions, publisher, nil
}

func requirement(text string) resolve.Requirement {
	text, optional := strings.CutPrefix(text, "?")
	name, r, _ := strings.Cut(text, " ")
	return resolve.Requirement{Name: name, Range: r, Optional: optional}
}

func solve(t testing.TB, u universe, locked map[string]string, roots ...string) (string, error) {
	t.Helper()
	var reqs []resolve.Requirement
	for _, r := range roots {
		reqs = append(reqs, requirement(r))
	}
	choices, err := resolve.Solve(context.Background(), reqs, locked, u)
	var got []string
	for _, c := range choices {
		got = append(got, c.String())
	}
	return strings.Join(got, " "), err
}

func TestSolve(t *testing.T) {
	for _, tc := range []struct {
		name   string
		u      universe
		locked map[string]string
		roots  []string
		want   string
	}{
		{"the newest", universe{"a@1.0.0": nil, "a@1.2.0": nil, "a@1.10.0": nil}, nil, []string{"a"}, "a@1.10.0"},
		{"in a range", universe{"a@1.0.0": nil, "a@2.0.0": nil}, nil, []string{"a ^1"}, "a@1.0.0"},
		{"dependencies come first", universe{"a@1.0.0": {"b", "c"}, "b@1.0.0": {"c"}, "c@1.0.0": nil}, nil, []string{"a"}, "c@1.0.0 b@1.0.0 a@1.0.0"},
		{"a locked version stays", universe{"a@1.0.0": nil, "a@1.1.0": nil}, map[string]string{"a": "1.0.0"}, []string{"a ^1"}, "a@1.0.0"},
		{"unless it is excluded", universe{"a@1.0.0": nil, "a@1.1.0": nil}, map[string]string{"a": "1.0.0"}, []string{"a >=1.1"}, "a@1.1.0"},
		{"yanked ones are passed over", universe{"a@1.0.0": nil, "a@1.1.0!": nil}, nil, []string{"a"}, "a@1.0.0"},
		{"unless they are locked", universe{"a@1.0.0": nil, "a@1.1.0!": nil}, map[string]string{"a": "1.1.0"}, []string{"a"}, "a@1.1.0"},
		{"a version that needs what does not exist is passed over", universe{"a@1.0.0": nil, "a@1.1.0": {"nowhere"}}, nil, []string{"a"}, "a@1.0.0"},
		{"what is optional is not installed for that", universe{"a@1.0.0": {"?b ^1"}, "b@1.0.0": nil}, nil, []string{"a"}, "a@1.0.0"},
		{"but must fit where others need it", universe{"a@1.0.0": {"?b ^1"}, "b@1.0.0": nil, "b@2.0.0": nil}, nil, []string{"a", "b"}, "b@1.0.0 a@1.0.0"},
		{"and may be unknown", universe{"a@1.0.0": {"?b ^1"}}, nil, []string{"a"}, "a@1.0.0"},
		{"previews are passed over", universe{"a@1.0.0": nil, "a@2.0.0-rc.1": nil}, nil, []string{"a"}, "a@1.0.0"},
		{"unless there is nothing else", universe{"a@2.0.0-rc.1": nil}, nil, []string{"a"}, "a@2.0.0-rc.1"},
		{"a conflict is avoided by an older version", universe{
			"a@1.0.0": nil, "a@2.0.0": {"c ^2"}, "b@1.0.0": {"c ^1"}, "c@1.0.0": nil, "c@2.0.0": nil,
		}, nil, []string{"a", "b"}, "a@1.0.0 c@1.0.0 b@1.0.0"},
		{"and by going back more than one step", universe{
			"a@1.0.0": nil, "a@2.0.0": {"x"}, "x@1.0.0": {"y ^9"}, "y@1.0.0": nil, "b@1.0.0": {"y ^1"},
		}, nil, []string{"a", "b"}, "a@1.0.0 y@1.0.0 b@1.0.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := solve(t, tc.u, tc.locked, tc.roots...)
			if err != nil || got != tc.want {
				t.Fatalf("got %q, %v; want %q", got, err, tc.want)
			}
		})
	}
}

// TestPublishedCases are the examples of the algorithm's description (solver.md of
// Dart's pub), which each show one of its steps.
func TestPublishedCases(t *testing.T) {
	for _, tc := range []struct {
		name  string
		u     universe
		roots []string
		want  string // empty: there is no solution
		says  []string
	}{
		{
			"no conflicts",
			universe{"foo@1.0.0": {"bar ^1.0.0"}, "bar@1.0.0": nil, "bar@2.0.0": nil},
			[]string{"foo ^1.0.0"},
			"bar@1.0.0 foo@1.0.0", nil,
		},
		{
			"avoiding conflict during decision making",
			universe{"foo@1.1.0": {"bar ^2.0.0"}, "foo@1.0.0": nil, "bar@1.0.0": nil, "bar@1.1.0": nil, "bar@2.0.0": nil},
			[]string{"foo ^1.0.0", "bar ^1.0.0"},
			"bar@1.1.0 foo@1.0.0", nil,
		},
		{
			"performing conflict resolution",
			universe{"foo@2.0.0": {"bar ^1.0.0"}, "foo@1.0.0": nil, "bar@1.0.0": {"foo ^1.0.0"}},
			[]string{"foo >=1.0.0"},
			"foo@1.0.0", nil,
		},
		{
			"conflict resolution with a partial satisfier",
			universe{
				"foo@1.1.0": {"left ^1.0.0", "right ^1.0.0"}, "foo@1.0.0": nil, "left@1.0.0": {"shared >=1.0.0"}, "right@1.0.0": {"shared <2.0.0"},
				"shared@2.0.0": nil, "shared@1.0.0": {"target ^1.0.0"}, "target@2.0.0": nil, "target@1.0.0": nil,
			},
			[]string{"foo ^1.0.0", "target ^2.0.0"},
			"foo@1.0.0 target@2.0.0", nil,
		},
		{
			"linear error reporting",
			universe{"foo@1.0.0": {"bar ^2.0.0"}, "bar@2.0.0": {"baz ^3.0.0"}, "baz@1.0.0": nil, "baz@3.0.0": nil},
			[]string{"foo ^1.0.0", "baz ^1.0.0"},
			"",
			[]string{"you ask for foo ^1.0.0", "foo@1.0.0 needs bar ^2.0.0", "bar@2.0.0 needs baz ^3.0.0", "you ask for baz ^1.0.0"},
		},
		{
			"branching error reporting",
			universe{
				"foo@1.0.0": {"a ^1.0.0", "b ^1.0.0"}, "foo@1.1.0": {"x ^1.0.0", "y ^1.0.0"}, "a@1.0.0": {"b ^2.0.0"}, "b@1.0.0": nil, "b@2.0.0": nil,
				"x@1.0.0": {"y ^2.0.0"}, "y@1.0.0": nil, "y@2.0.0": nil,
			},
			[]string{"foo ^1.0.0"},
			"",
			[]string{"foo@1.0.0 needs a ^1.0.0", "a@1.0.0 needs b ^2.0.0", "foo@1.0.0 needs b ^1.0.0", "foo@1.1.0 needs x ^1.0.0", "x@1.0.0 needs y ^2.0.0", "foo@1.1.0 needs y ^1.0.0"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := solve(t, tc.u, nil, tc.roots...)
			if (err == nil) != (tc.want != "") || got != tc.want {
				t.Fatalf("got %q, %v; want %q", got, err, tc.want)
			}
			for _, say := range tc.says {
				if !strings.Contains(err.Error(), say) {
					t.Errorf("%q is missing in: %v", say, err)
				}
			}
		})
	}
}

// TestAnEntangledGraphIsDecided: without learning, a search tries 10^30 combinations
// here. Two packages in one corner contradict each other, and thirty others, which
// have nothing to do with that, have ten versions each.
func TestAnEntangledGraphIsDecided(t *testing.T) {
	u := universe{}
	var roots []string
	for i := range 30 {
		for v := range 10 {
			u[fmt.Sprintf("p%02d@%d.0.0", i, v+1)] = []string{fmt.Sprintf("q%02d", i)}
			u[fmt.Sprintf("q%02d@%d.0.0", i, v+1)] = nil
		}
		roots = append(roots, fmt.Sprintf("p%02d", i))
	}
	for v := range 10 {
		u[fmt.Sprintf("left@%d.0.0", v+1)] = []string{"core ^1"}
		u[fmt.Sprintf("right@%d.0.0", v+1)] = []string{"core ^2"}
	}
	u["core@1.0.0"], u["core@2.0.0"] = nil, nil
	_, err := solve(t, u, nil, append(roots, "left", "right")...)
	if !errors.Is(err, shared.ReasonUnsatisfiable) {
		t.Fatalf("got %v", err)
	}
	for _, say := range []string{"left (every version) needs core ^1", "right (every version) needs core ^2"} {
		if !strings.Contains(err.Error(), say) {
			t.Errorf("%q is missing in: %v", say, err)
		}
	}
	if strings.Contains(err.Error(), "p01") {
		t.Errorf("what has nothing to do with it is told: %v", err)
	}
}

func TestSolveExplains(t *testing.T) {
	for _, tc := range []struct {
		name   string
		u      universe
		root   string
		reason shared.Reason
		says   []string
	}{
		{
			"conflict",
			universe{"a@1.0.0": {"b", "c"}, "b@1.0.0": {"d ^1"}, "c@1.0.0": {"d ^2"}, "d@1.0.0": nil, "d@2.0.0": nil},
			"a",
			shared.ReasonUnsatisfiable,
			[]string{"b@1.0.0 needs d ^1", "c@1.0.0 needs d ^2", "there is 2.0.0, 1.0.0"},
		},
		{"no version", universe{"a@1.0.0": nil}, "a ^2", shared.ReasonUnsatisfiable, []string{"you ask for a ^2", "there is 1.0.0"}},
		{"unknown dependency", universe{"a@1.0.0": {"zzz"}}, "a", shared.ReasonNotFound, []string{"a@1.0.0 needs zzz", "nobody knows zzz"}},
		{"circle", universe{"a@1.0.0": {"b"}, "b@1.0.0": {"c"}, "c@1.0.0": {"a"}}, "a", shared.ReasonUnsatisfiable, []string{"a → b → c → a"}},
		{"range that is none", universe{"a@1.0.0": nil}, "a nonsense", shared.ReasonInvalidArgument, []string{"nonsense"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := solve(t, tc.u, nil, tc.root)
			if !errors.Is(err, tc.reason) {
				t.Fatalf("got %v, want %s", err, tc.reason)
			}
			for _, says := range tc.says {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("%q does not say %q", err, says)
				}
			}
		})
	}
}

// TestSolveAgainstBruteForce: on small universes there is a solution exactly when
// trying everything finds one, and what is found meets every requirement.
func TestSolveAgainstBruteForce(t *testing.T) {
	names := []string{"a", "b", "c", "d"} // requirements only point to later ones: no circles
	rapid.Check(t, func(t *rapid.T) {
		u := universe{}
		for i, name := range names {
			for v := 1; v <= rapid.IntRange(1, 3).Draw(t, "versions of "+name); v++ {
				var needs []string
				for _, other := range names[i+1:] {
					if rapid.Bool().Draw(t, "needs") {
						needs = append(needs, fmt.Sprintf("%s %s%d", other, rapid.SampledFrom([]string{"^", ">=", "<="}).Draw(t, "operator"), rapid.IntRange(1, 3).Draw(t, "bound")))
					}
				}
				u[fmt.Sprintf("%s@%d.0.0", name, v)] = needs
			}
		}
		got, err := resolve.Solve(context.Background(), []resolve.Requirement{{Name: "a"}}, nil, u)
		if err != nil && !errors.Is(err, shared.ReasonUnsatisfiable) {
			t.Fatal(err)
		}
		if possible := bruteForce(u, names, map[string]string{}); possible != (err == nil) {
			t.Fatalf("possible: %v, found: %v, %v", possible, got, err)
		}
		chosen := map[string]string{}
		for _, c := range got {
			chosen[c.Name] = c.Version.String()
		}
		if err == nil && !consistent(u, chosen) {
			t.Fatalf("%v does not meet all requirements", got)
		}
	})
}

// bruteForce tries every version, or none, of every package.
func bruteForce(u universe, names []string, chosen map[string]string) bool {
	if len(names) == 0 {
		_, has := chosen["a"]
		return has && consistent(u, chosen)
	}
	for key := range u {
		if name, version, _ := strings.Cut(key, "@"); name == names[0] {
			chosen[name] = version
			if bruteForce(u, names[1:], chosen) {
				return true
			}
		}
	}
	delete(chosen, names[0])
	return bruteForce(u, names[1:], chosen)
}

func consistent(u universe, chosen map[string]string) bool {
	for name, version := range chosen {
		for _, need := range u[name+"@"+version] {
			r := requirement(need)
			have, ok := chosen[r.Name]
			wanted, err := semver.NewConstraint(r.Range)
			if !ok || err != nil || !wanted.Check(semver.MustParse(have)) {
				return false
			}
		}
	}
	return true
}

// thousand is a layered universe: every version of a package needs two of the
// next layer.
type thousand struct{}

func (thousand) Versions(_ context.Context, name, _ string) ([]resolve.Version, string, error) {
	var n int
	if _, err := fmt.Sscanf(name, "p%d", &n); err != nil {
		return nil, "", err
	}
	var versions []resolve.Version
	for v := range 20 {
		version := resolve.Version{Version: semver.New(1, uint64(v), 0, "", "")}
		for _, next := range []int{n + 1, n + 7} {
			if next < 1000 {
				version.Requires = append(version.Requires, resolve.Requirement{Name: fmt.Sprintf("p%d", next), Range: "^1"})
			}
		}
		versions = append(versions, version)
	}
	return versions, "anybody", nil
}

// TestANameMeansOnePublisher: nobody slips another publisher's package under a
// name that somebody else means.
func TestANameMeansOnePublisher(t *testing.T) {
	u := universe{"a@1.0.0": {"lib"}, "b@1.0.0": {"lib"}, "lib@1.0.0": nil}
	for _, tc := range []struct {
		name, a, b string
		roots      string
		ok         bool
	}{
		{"nobody names one", "", "", "a lib b", true},
		{"one does, and nobody else says whom", "acme", "", "a b", true},
		{"both the same", "acme", "acme", "a b", true},
		{"two different ones", "acme", "evil", "a b", false},
		{"one that the name does not mean", "", "evil", "a b", false},
		{"another one than the user means", "evil", "", "a lib b", false},
		{"the same, whatever the order", "evil", "", "lib b a", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			named := naming{u, map[string]string{"a": tc.a, "b": tc.b}}
			var roots []resolve.Requirement
			for name := range strings.FieldsSeq(tc.roots) {
				roots = append(roots, resolve.Requirement{Name: name})
			}
			_, err := resolve.Solve(t.Context(), roots, nil, named)
			if tc.ok != (err == nil) || err != nil && !errors.Is(err, shared.ReasonUntrusted) {
				t.Fatalf("got %v, want ok=%v", err, tc.ok)
			}
		})
	}
}

// naming adds a publisher to what some packages require.
type naming struct {
	universe
	publishers map[string]string
}

func (n naming) Versions(ctx context.Context, name, publisher string) ([]resolve.Version, string, error) {
	versions, chosen, err := n.universe.Versions(ctx, name, publisher)
	for i := range versions {
		for j := range versions[i].Requires {
			versions[i].Requires[j].Publisher = n.publishers[name]
		}
	}
	return versions, chosen, err
}

// TestManyRequirementsCostLittle: a package of a stranger cannot make the solver
// eat the machine.
func TestManyRequirementsCostLittle(t *testing.T) {
	u := universe{}
	for i := range 600 {
		var needs []string
		for j := i + 1; j < min(i+129, 600); j++ {
			needs = append(needs, fmt.Sprintf("p%d", j))
		}
		u[fmt.Sprintf("p%d@1.0.0", i)] = needs
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := solve(t, u, nil, "p0"); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	// A copy of the list for every package would be 1.6 GiB; the race detector
	// doubles what is needed.
	if grown := (after.TotalAlloc - before.TotalAlloc) >> 20; grown > 700 {
		t.Fatalf("it allocated %d MiB", grown)
	}
}

func BenchmarkSolveThousandPackages(b *testing.B) {
	for b.Loop() {
		if _, err := resolve.Solve(b.Context(), []resolve.Requirement{{Name: "p0"}}, nil, thousand{}); err != nil {
			b.Fatal(err)
		}
	}
}
