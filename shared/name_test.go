package shared_test

import (
	"errors"
	"strings"
	"testing"

	"ggen.dev/marketplace/shared"
)

func TestCheckName(t *testing.T) {
	for _, tc := range []struct {
		name string
		ok   bool
	}{
		{"hello-world", true},
		{"a", true},
		{"0.x_y-z", true},
		{strings.Repeat("a", shared.MaxNameLen), true},
		{"", false},
		{strings.Repeat("a", shared.MaxNameLen+1), false},
		{"Hello", false},
		{"-leading", false},
		{".hidden", false},
		{"a/b", false},
		{"a b", false},
		{"a\n", false},
		{"ünïcode", false},
		{"$(reboot)", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := shared.CheckName(tc.name)
			if tc.ok != (err == nil) {
				t.Fatalf("CheckName(%q) = %v, want ok=%v", tc.name, err, tc.ok)
			}
			if err != nil && !errors.Is(err, shared.ReasonInvalidArgument) {
				t.Fatalf("reason of %v is not %s", err, shared.ReasonInvalidArgument)
			}
		})
	}
}

func TestParseRef(t *testing.T) {
	id := strings.Repeat("ab", 32)
	for _, tc := range []struct {
		in   string
		want shared.Ref
		ok   bool
	}{
		{"hello", shared.Ref{Name: "hello"}, true},
		{"hello@1.2.3", shared.Ref{Name: "hello", Constraint: "1.2.3"}, true},
		{"hello@^1 || ^2", shared.Ref{Name: "hello", Constraint: "^1 || ^2"}, true},
		{id + "/hello", shared.Ref{Publisher: shared.PublisherID(id), Name: "hello"}, true},
		{"abababab/hello@1", shared.Ref{Publisher: "abababab", Name: "hello", Constraint: "1"}, true},
		{"hello@", shared.Ref{}, false},
		{"", shared.Ref{}, false},
		{"acme/hello", shared.Ref{}, false},   // not hexadecimal
		{"abc/hello", shared.Ref{}, false},    // too short to mean anybody
		{"abababab/", shared.Ref{}, false},    // no name
		{"../../etc", shared.Ref{}, false},    // not a path
		{id + "0/hello", shared.Ref{}, false}, // too long
		{"abababab/a/b", shared.Ref{}, false}, // one slash only
	} {
		t.Run(tc.in, func(t *testing.T) {
			got, err := shared.ParseRef(tc.in)
			if tc.ok != (err == nil) {
				t.Fatalf("ParseRef(%q) error %v, want ok=%v", tc.in, err, tc.ok)
			}
			if got != tc.want {
				t.Fatalf("ParseRef(%q) = %+v, want %+v", tc.in, got, tc.want)
			}
			if tc.ok && got.String() != tc.in {
				t.Fatalf("String() = %q, want %q", got.String(), tc.in)
			}
		})
	}
}

func TestDigest(t *testing.T) {
	d := shared.DigestOf([]byte("hello"))
	const want = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	if d != want {
		t.Fatalf("DigestOf = %s, want %s", d, want)
	}
	if shared.DigestFromSum(d.Sum()) != d {
		t.Fatalf("Sum does not round-trip: %s", d)
	}
	for _, bad := range []string{"", "sha256:", "md5:00", want[:70], want + "0", strings.ToUpper(want)} {
		if _, err := shared.ParseDigest(bad); err == nil {
			t.Errorf("ParseDigest(%q) succeeded", bad)
		}
		if shared.Digest(bad).Sum() != [32]byte{} {
			t.Errorf("Sum of the invalid digest %q is not zero", bad)
		}
	}
}
