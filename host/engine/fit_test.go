//go:build linux

package engine_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ggen.dev/marketplace/host/engine"
	"ggen.dev/marketplace/host/plugins"
	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
)

// TestTheEngineThatRunsIsTheOneThatIsAskedFor: what the lock files or the environment
// say counts for an engine that runs already, too.
func TestTheEngineThatRunsIsTheOneThatIsAskedFor(t *testing.T) {
	cfg := config(t)
	second, err := buildEngine("fit", "0.2.0", 1, "")
	if err != nil {
		t.Fatal(err)
	}
	cfg.PluginDirs = []string{built, second}
	if runs := version(t, cfg); runs != "0.2.0" {
		t.Fatalf("engine %s runs", runs)
	}
	project := t.TempDir()
	if err := os.WriteFile(filepath.Join(project, plugins.LockfileName), []byte("schema = 1\nuse = \"0.1.0\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	inside := cfg
	inside.Project = project
	s, info := connect(t, inside)
	if info.Version != "0.1.0" || !slices.ContainsFunc(s.Notices(), func(d shared.Diagnostic) bool {
		return strings.Contains(d.Message, "asks for engine 0.1.0")
	}) {
		t.Errorf("engine %s, notices %v", info.Version, s.Notices())
	}
	if runs := version(t, cfg); runs != "0.1.0" {
		t.Errorf("elsewhere nobody asks for another one, and engine %s runs", runs)
	}
	if err := os.WriteFile(filepath.Join(project, plugins.LockfileName), []byte("schema = 1\nuse = \"0.8.0\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.Connect(t.Context(), inside); !errors.Is(err, shared.ReasonEngineNotFound) {
		t.Errorf("a version that is not there: %v", err)
	}

	dev := filepath.Join(second, binaryName("0.2.0", 1))
	t.Setenv(plugins.DevVariable, dev)
	for range 2 { // whoever starts it is warned, and whoever finds it
		s, info := connect(t, cfg)
		if info.Version != "0.2.0" || !slices.ContainsFunc(s.Notices(), func(d shared.Diagnostic) bool { return strings.Contains(d.Message, "unverified") }) {
			t.Errorf("engine %s, notices %v", info.Version, s.Notices())
		}
	}
	t.Setenv(plugins.DevVariable, "")
	s, info2 := connect(t, cfg)
	if !slices.ContainsFunc(s.Notices(), func(d shared.Diagnostic) bool { return strings.Contains(d.Message, "unverified") }) || info2.Version != "0.2.0" {
		t.Errorf("the unverified engine goes on: %s, %v", info2.Version, s.Notices())
	}
	if s, _ := connect(t, cfg); len(s.Notices()) != 0 {
		t.Errorf("once more: %v", s.Notices())
	}
}

// TestAPeerSurvivesSettingsThatDoNotWork: what runs is not given up for what does not.
func TestAPeerSurvivesSettingsThatDoNotWork(t *testing.T) {
	cfg := config(t)
	s, _, err := engine.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	status, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	other := config(t)
	other.Settings.Listen = status.ListenAddresses[:1]
	wrong := cfg
	wrong.Settings.Listen = []string{"/ip4/203.0.113.1/tcp/1"} // not an address of this machine
	if _, _, err := engine.Start(t.Context(), wrong); err == nil || !strings.Contains(err.Error(), "the peer runs on with the settings of before") {
		t.Errorf("got %v", err)
	}
	state, ok := launch.ReadState(filepath.Join(cfg.Home, "run"))
	if !ok || !state.Staying || !state.Settings.Equal(cfg.Settings) {
		t.Errorf("state %+v", state)
	}
}

// TestWhoLooksDoesNotEndAnEngine: an engine that stands still is replaced by the
// commands that need it, and not by one that asks how it is.
func TestWhoLooksDoesNotEndAnEngine(t *testing.T) {
	cfg := config(t)
	s, info := connect(t, cfg)
	_ = s.Close()
	stopProcess(t, info.PID)
	if _, err := engine.Attach(t.Context(), cfg); !errors.Is(err, shared.ReasonEngineTimeout) || !strings.Contains(shared.AsError(err).Hint, "p2p stop") {
		t.Errorf("got %v", err)
	}
	s, next := connect(t, cfg)
	if next.PID == info.PID || len(s.Notices()) != 1 || !strings.Contains(s.Notices()[0].Message, "did not answer and was ended") {
		t.Errorf("process %d, notices %v", next.PID, s.Notices())
	}
}

// TestAPeerWithoutASocketComesBackAsItWas: nobody has asked it to end.
func TestAPeerWithoutASocketComesBackAsItWas(t *testing.T) {
	cfg := config(t)
	s, _, err := engine.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	run := filepath.Join(cfg.Home, "run")
	state, _ := launch.ReadState(run)
	if err := os.Remove(state.Address); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it notices", func() bool {
		now, ok := launch.ReadState(run)
		return ok && now.Ended != ""
	})
	plain := cfg
	plain.Settings = engine.Settings{}
	s, _ = connect(t, plain)
	now, ok := launch.ReadState(run)
	if !ok || !now.Staying || !now.Settings.Equal(cfg.Settings) || now.Instance == state.Instance {
		t.Errorf("state %+v", now)
	}
	if len(s.Notices()) != 1 || !strings.Contains(s.Notices()[0].Message, "its socket was deleted; it was started again with the same settings") {
		t.Errorf("notices %v", s.Notices())
	}
	if deaths, err := os.ReadFile(filepath.Join(run, "deaths.json")); err == nil && strings.Contains(string(deaths), state.Instance) {
		t.Errorf("it counts as a crash: %s", deaths)
	}
}
