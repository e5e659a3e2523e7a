package render

import (
	"strconv"

	"ggen.dev/marketplace/shared"
)

// Plugin is an engine file that was looked at.
type Plugin struct {
	Path     string        `json:"path"`
	Version  string        `json:"version"`
	Protocol int           `json:"protocol"`
	OS       string        `json:"os"`
	Arch     string        `json:"arch"`
	Source   string        `json:"source"`
	Digest   shared.Digest `json:"digest"`
	Used     bool          `json:"used"`
	Why      string        `json:"why"` // why it is not used
}

// Plugins is the list of engine files.
type Plugins struct {
	Plugins []Plugin `json:"plugins"`
	Total   int      `json:"total"`
}

// Text implements [Document].
func (d Plugins) Text(p *Page) {
	rows := make([][]string, 0, len(d.Plugins))
	for _, plugin := range d.Plugins {
		state := plugin.Why
		if plugin.Used {
			state = "used"
		}
		rows = append(rows, []string{plugin.Version, strconv.Itoa(plugin.Protocol), plugin.OS + "/" + plugin.Arch, plugin.Source, plugin.Path, state})
	}
	p.Table([]string{"VERSION", "PROTOCOL", "PLATFORM", "FOUND IN", "FILE", "STATE"}, rows)
	if len(rows) == 0 {
		p.Line("No engine was found.")
	}
}

// About is which program this is.
type About struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Engine   string `json:"engine,omitempty"` // version of the engine that would be used
}

// Text implements [Document].
func (d About) Text(p *Page) {
	p.Line("ggen %s", d.Version)
	if !p.Quiet {
		p.Fields("Commit", d.Commit, "Go", d.Go, "Platform", d.Platform, "Engine", d.Engine)
	}
}

// Script is a completion script.
type Script struct {
	Shell  string `json:"shell"`
	Script string `json:"script"`
}

// Text implements [Document]. The script is ours, lines and all.
func (d Script) Text(p *Page) { p.b.WriteString(d.Script) }
