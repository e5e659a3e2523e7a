package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"ggen.dev/marketplace/shared"
	"ggen.dev/marketplace/shared/launch"
)

// The restart budget: an engine that ended without being stopped is started again
// at most so often within the window, with growing pauses, and then refused. A
// crash that repeats itself is not mended by starting over, and each start costs
// its peers something.
const (
	maxRestarts   = 3
	restartWindow = 10 * time.Minute
)

// restartPauses are the waits before the first, second and third restart.
var restartPauses = [maxRestarts]time.Duration{0, 500 * time.Millisecond, 2 * time.Second}

// death is an engine that ended without being stopped, or that did not come up.
type death struct {
	Instance string    `json:"instance"`
	Time     time.Time `json:"time"`
}

func (cfg Config) deathsFile() string { return filepath.Join(cfg.run(), "deaths.json") }

// maxDeathsFile bounds what is read, in bytes.
const maxDeathsFile = 64 << 10

// deaths reads those of the window. A damaged file is an empty one.
func (cfg Config) deaths(now time.Time) []death {
	var all, recent []death
	if json.Unmarshal(readHead(cfg.deathsFile(), maxDeathsFile), &all) != nil {
		return nil
	}
	for _, d := range all {
		if age := now.Sub(d.Time); age >= 0 && age < restartWindow {
			recent = append(recent, d)
		}
	}
	return recent
}

// bury records a death, once for each instance. The caller holds the host's lock.
func (cfg Config) bury(instance string, now time.Time) error {
	recent := cfg.deaths(now)
	for _, d := range recent {
		if d.Instance == instance {
			return nil
		}
	}
	data, err := json.Marshal(append(recent, death{instance, now}))
	if err != nil {
		return err
	}
	// Not synced: after a power cut nobody misses it.
	if err := os.WriteFile(cfg.deathsFile(), data, 0o600); err != nil {
		return shared.NewError(shared.ReasonStorage, "note that the engine died: %w", err)
	}
	return nil
}

// forget gives the whole budget back: somebody has done something about it.
func (cfg Config) forget() error {
	if err := os.Remove(cfg.deathsFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return shared.NewError(shared.ReasonStorage, "forget the engine's crashes: %w", err)
	}
	return nil
}

// afford waits as long as the next start has to, or refuses it with
// ENGINE_CRASHING.
func (cfg Config) afford(ctx context.Context, now time.Time) error {
	recent := cfg.deaths(now)
	if len(recent) == 0 {
		return nil
	}
	if len(recent) > maxRestarts {
		wait := restartWindow - now.Sub(recent[len(recent)-1-maxRestarts].Time)
		return cfg.withLog(shared.NewError(shared.ReasonEngineCrashing, "the engine ended %d times within %s and is not started again for %s", len(recent), restartWindow, wait.Round(time.Second)).
			WithHint("its log is %s, its crash reports are in %s; `ggen marketplace p2p stop` allows new starts at once, `plugin rollback` goes back to the engine before",
				launch.LogFile(cfg.home()), launch.CrashDir(cfg.home()))).
			With("retry_after_ms", strconv.FormatInt(wait.Milliseconds(), 10))
	}
	timer := time.NewTimer(restartPauses[len(recent)-1])
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return shared.AsError(ctx.Err())
	}
}
