package project_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ggen.dev/marketplace/host/project"
	"ggen.dev/marketplace/shared"
)

// TestTheStrictestRulesCount: a project can ask for more than its user does, and
// never for less.
func TestTheStrictestRulesCount(t *testing.T) {
	read := func(text string) project.Given {
		t.Helper()
		g, err := project.ParseSettings("ggen.toml", []byte("[marketplace]\n"+text))
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	strict := read("trust_policy = 'allow-list'\nmin_age = '3d'\nmax_package_files = 10\nmax_package_size = '1MiB'\n")
	loose := read("trust_policy = 'tofu'\nmin_age = '1h'\nmax_package_files = 100\nmax_package_size = '2MiB'\n")
	want := project.Rules{Policy: shared.PolicyAllowList, MinAge: 72 * time.Hour, MaxFiles: 10, MaxSize: 1 << 20}
	for _, sources := range [][]project.Given{{strict}, {strict, loose}, {loose, strict}, {{}, strict, {}}} {
		if diff := cmp.Diff(want, project.MergeRules(sources...)); diff != "" {
			t.Error(diff)
		}
	}
	if diff := cmp.Diff(project.Rules{Policy: shared.PolicyTOFU}, project.MergeRules(project.Given{})); diff != "" {
		t.Error(diff)
	}
}

func TestRulesThatAreNone(t *testing.T) {
	for _, text := range []string{
		"trust_policy = 'everybody'", "min_age = 'soon'", "min_age = '-1h'", "max_package_files = -1", "max_package_size = 'large'", "max_package_size = '0B'",
	} {
		if _, err := project.ParseSettings("ggen.toml", []byte("[marketplace]\n"+text+"\n")); err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
}

func TestParseAge(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "36h": 36 * time.Hour, "3d": 72 * time.Hour, "2w": 336 * time.Hour, "90m": 90 * time.Minute,
	} {
		if got, err := project.ParseAge(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "-3d", "3", "3 d", "999999999999w", "4000d", "1e9h"} {
		if got, err := project.ParseAge(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}
