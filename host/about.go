package main

import (
	"context"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/plugins"
	"ggen.dev/marketplace/host/project"
	"ggen.dev/marketplace/host/render"
)

func (p *program) versionCommand() *cli.Command {
	return p.leaf(&cli.Command{Name: "version", Usage: "show which ggen this is, and which engine it would use"}, arity{0, 0}, about)
}

func about(_ context.Context, v *invocation) error {
	doc := render.About{Version: v.version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range build.Settings {
			if setting.Key == "vcs.revision" {
				doc.Commit = setting.Value
			}
		}
	}
	// A version is told even where engines or settings are broken.
	if cfg, err := v.config(project.Given{}, ""); err == nil {
		if found, err := plugins.Find(v.engines.Search(cfg)); err == nil {
			for _, candidate := range found {
				if candidate.Used {
					doc.Engine = candidate.Version
				}
			}
		}
	}
	return v.Print(doc)
}
