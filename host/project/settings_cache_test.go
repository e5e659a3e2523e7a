package project_test

import (
	"testing"
	"time"

	"ggen.dev/marketplace/host/project"
	"ggen.dev/marketplace/shared/launch"
)

func TestCacheSettings(t *testing.T) {
	for name, c := range map[string]struct {
		file, text string
		want       launch.Cache
		refused    bool
	}{
		"all":               {"config.toml", "[cache]\nsize = \"1GiB\"\nlifetime = \"3d\"\nhot_entries = 5\nhot_lifetime = \"30m\"\nwarm_entries = 50\nwarm_lifetime = \"12h\"", launch.Cache{Size: 1 << 30, Lifetime: 72 * time.Hour, HotEntries: 5, HotLifetime: 30 * time.Minute, WarmEntries: 50, WarmLifetime: 12 * time.Hour}, false},
		"none":              {"config.toml", "", launch.Cache{}, false},
		"not for a project": {"ggen.toml", "[cache]\nsize = \"1GiB\"\n[marketplace]\nmetrics_addr = \"127.0.0.1:1\"", launch.Cache{}, false},
		"too small":         {"config.toml", "[cache]\nsize = \"1KiB\"", launch.Cache{}, true},
		"no size":           {"config.toml", "[cache]\nsize = \"much\"", launch.Cache{}, true},
		"no age":            {"config.toml", "[cache]\nlifetime = \"0s\"", launch.Cache{}, true},
		"negative":          {"config.toml", "[cache]\nhot_entries = -1", launch.Cache{}, true},
		"too many":          {"config.toml", "[cache]\nwarm_entries = 1000000", launch.Cache{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			given, err := project.ParseSettings(c.file, []byte(c.text))
			if (err != nil) != c.refused {
				t.Fatal(err)
			}
			if given.Cache != c.want || given.MetricsAddr != "" {
				t.Errorf("%+v, metrics at %q", given.Cache, given.MetricsAddr)
			}
		})
	}
}
