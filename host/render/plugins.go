package render

import (
	"strconv"
	"strings"

	"ggen.dev/marketplace/shared"
)

// Plugin is an engine file that was looked at.
type Plugin struct {
	Path     string        `json:"path"`     // absolute path
	Version  string        `json:"version"`  // semantic version
	Protocol int           `json:"protocol"` // newest version of the contract that it speaks
	OS       string        `json:"os"`       // operating system, as Go names it
	Arch     string        `json:"arch"`     // processor, as Go names it
	Source   string        `json:"source"`   // search place that it was found in
	Digest   shared.Digest `json:"digest"`   // that its checksum file states
	// "none", "unchecked" (no keys are pinned), "by a pinned key", or what is wrong.
	Signature string `json:"signature"` // what is known of its minisign signature
	Used      bool   `json:"used"`      // this one is used
	Why       string `json:"why"`       // why it is not used
	Fix       string `json:"fix"`       // what makes it usable, if that is known
}

// Plugins is the list of engine files.
type Plugins struct {
	Plugins []Plugin `json:"plugins"` // engine files
	Total   int      `json:"total"`   // how many there are in all
}

// Text implements [Document].
func (d Plugins) Text(p *Page) {
	rows := make([][]string, 0, len(d.Plugins))
	for _, plugin := range d.Plugins {
		state := plugin.Why
		if plugin.Used {
			state = "used"
		}
		rows = append(rows, []string{plugin.Version, strconv.Itoa(plugin.Protocol), plugin.OS + "/" + plugin.Arch, state, plugin.Source, plugin.Path})
	}
	p.Table([]string{"VERSION", "PROTOCOL", "PLATFORM", "STATE", "FOUND IN", "FILE"}, rows)
	if len(rows) == 0 {
		p.Line("No engine was found.")
	}
}

// VerifiedPlugin is the check of one engine file.
type VerifiedPlugin struct {
	Path      string        `json:"path"`      // absolute path
	Version   string        `json:"version"`   // semantic version
	OS        string        `json:"os"`        // operating system, as Go names it
	Arch      string        `json:"arch"`      // processor, as Go names it
	Source    string        `json:"source"`    // search place that it was found in
	OK        bool          `json:"ok"`        // no difference and no problem was found
	Expected  shared.Digest `json:"expected"`  // digest that it should have
	Found     shared.Digest `json:"found"`     // digest that it has; empty if it cannot be told
	Signature string        `json:"signature"` // what is known of its minisign signature
	Problem   string        `json:"problem"`   // what else is wrong; empty if nothing
	Fix       string        `json:"fix"`       // what makes it usable, if that is known
}

// PluginVerify is the result of checking engine files.
type PluginVerify struct {
	Plugins []VerifiedPlugin `json:"plugins"` // engine files
	Total   int              `json:"total"`   // how many there are in all
	OK      bool             `json:"ok"`      // no difference and no problem was found
}

// Text implements [Document].
func (d PluginVerify) Text(p *Page) {
	for _, plugin := range d.Plugins {
		if plugin.OK {
			if !p.Quiet {
				p.Line("ok     %s %s/%s  %s", plugin.Version, plugin.OS, plugin.Arch, plugin.Path)
			}
			continue
		}
		p.Heading("WRONG  %s %s/%s  %s", plugin.Version, plugin.OS, plugin.Arch, plugin.Path)
		p.Line("  %s", Clean(plugin.Problem))
		if plugin.Fix != "" {
			p.Line("  %s", Clean(plugin.Fix))
		}
	}
	if len(d.Plugins) == 0 {
		p.Line("No engine was found.")
	}
}

// InstalledPlugin is an engine file that was installed.
type InstalledPlugin struct{ Plugin }

// Text implements [Document].
func (d InstalledPlugin) Text(p *Page) {
	p.Line("Installed engine %s as %s", d.Version, d.Path)
	if !d.Used && !p.Quiet {
		p.Line("It is not used: %s", Clean(d.Why))
	}
}

// UsedPlugin is the engine that is used from now on.
type UsedPlugin struct {
	Version         string `json:"version"`          // semantic version
	Path            string `json:"path"`             // absolute path
	PreviousVersion string `json:"previous_version"` // empty if none could be used before
	Swapped         bool   `json:"swapped"`          // the running engine was replaced
}

// Text implements [Document].
func (d UsedPlugin) Text(p *Page) {
	switch d.PreviousVersion {
	case d.Version:
		p.Line("Engine %s is the one that is used, from now on whatever else is installed", d.Version)
	case "":
		p.Line("Engine %s is used now", d.Version)
	default:
		p.Line("Engine %s is used now, instead of %s", d.Version, d.PreviousVersion)
	}
	if d.Swapped && !p.Quiet {
		p.Line("The running engine was replaced.")
	}
}

// PinnedPlugin is a version that a plugins.lock asks for, or no longer asks for.
type PinnedPlugin struct {
	Pinned    bool     `json:"pinned"`    // a version is pinned now
	Version   string   `json:"version"`   // empty if none was pinned
	File      string   `json:"file"`      // absolute path of the lock that was changed
	Platforms []string `json:"platforms"` // whose digests were recorded
}

// Text implements [Document].
func (d PinnedPlugin) Text(p *Page) {
	switch {
	case d.Pinned:
		p.Line("%s asks for engine %s, on %s", d.File, d.Version, strings.Join(d.Platforms, ", "))
	case d.Version != "":
		p.Line("%s no longer asks for engine %s", d.File, d.Version)
	default:
		p.Line("%s asks for no engine", d.File)
	}
}

// RemovedPlugin is a version that was removed.
type RemovedPlugin struct {
	Version string   `json:"version"` // semantic version
	Removed []string `json:"removed"` // paths of the engines
}

// Text implements [Document].
func (d RemovedPlugin) Text(p *Page) {
	for _, path := range d.Removed {
		p.Line("Removed %s", path)
	}
}

// About is which program this is.
type About struct {
	Version  string `json:"version"`          // semantic version
	Commit   string `json:"commit,omitempty"` // of the sources, if known
	Go       string `json:"go"`               // version of the compiler
	Platform string `json:"platform"`         // operating system and processor
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
	Shell  string `json:"shell"`  // bash, zsh or fish
	Script string `json:"script"` // to be sourced by the shell
}

// Text implements [Document]. The script is ours, lines and all.
func (d Script) Text(p *Page) { p.b.WriteString(d.Script) }
