// Package plugins knows engine files: which there are, which one is used and why
// the others are not, and whether each is what it should be.
//
// An engine is a file ggen-engine-marketplace_v<semver>_p<protocol>_<os>_<arch>[.exe]
// with its checksum beside it, in .sha256, and perhaps a minisign signature, in
// .minisig. Of those that this host can speak to and that plugins.lock allows, the
// newest is used. If that one is broken, commands fail: they do not fall back to an
// older one, which is what somebody who can break files would want.
//
// This package never executes an engine and never speaks to one; package
// host/engine does.
package plugins

import (
	"os"
	"strconv"

	"ggen.dev/marketplace/shared"
)

// DevVariable is the environment variable that names an engine binary to use
// instead of any that is found. It is for people who work on engines, and always
// warns.
const DevVariable = "GGEN_PLUGIN_DEV"

// PathVariable is the environment variable that lists folders to look for engines in.
const PathVariable = "GGEN_PLUGIN_PATH"

// ProjectVariable is the environment variable that, set to anything, allows engines from the project's folder. A
// project is somebody else's files: without consent nothing in it is executed.
const ProjectVariable = "GGEN_PLUGIN_PROJECT"

// sourceProject is the source of the candidates that need consent.
const sourceProject = "project"

// Facts tells which protocols an engine speaks, as far as that was found out
// earlier. It must execute nothing.
type Facts func(Candidate) (protocols []int, known bool)

// Search says where engines are looked for, and which of them can be used.
type Search struct {
	Home    string   // $GGEN_HOME, absolute; required
	Project string   // the project's folder, absolute; empty outside of a project
	Dirs    []string // folders to look in first
	RunDir  string   // existing folder of ours (0700) for the cache of verified files; without one every check hashes

	Oldest, Newest int   // the protocols that this host speaks
	Facts          Facts // about engines with a newer protocol, which may speak ours too; may be nil
}

// speaks is the host's range of protocols for people.
func (s Search) speaks() string {
	if s.Oldest == s.Newest {
		return strconv.Itoa(s.Newest)
	}
	return strconv.Itoa(s.Oldest) + " to " + strconv.Itoa(s.Newest)
}

// Warnings are what the user must know whichever command runs: that an unverified
// engine is used because [DevVariable] says so.
func (s Search) Warnings() []shared.Diagnostic {
	dev := os.Getenv(DevVariable)
	if dev == "" {
		return nil
	}
	return []shared.Diagnostic{{
		Severity: shared.SeverityWarning, Message: "the engine is " + dev + ", unverified, because " + DevVariable + " is set",
		Hint: "unset " + DevVariable + " to use the installed engine",
	}}
}

// standing says whether a candidate takes part in the choice.
type standing int

const (
	usable   standing = iota
	broken            // takes part; if it wins, commands fail
	unknown           // its protocol is newer, and nobody has asked it for older ones
	unspoken          // no protocol in common
	barred            // by consent or by plugins.lock
	foreign           // for another platform
)

// Candidate is an engine file that was found.
type Candidate struct {
	Path      string
	Version   string // semantic version, or "development"
	Protocol  int    // the newest that it speaks
	OS, Arch  string
	Source    string        // which search place it was found in
	Digest    shared.Digest // that its checksum file states; empty if it cannot be told
	Signature string        // what is known without hashing: "none", "unchecked", "missing", "by a pinned key", "by an unknown key", "unreadable"
	Used      bool
	Why       string // why it is not used; empty for the one that is
	Fix       string // what makes it usable, if that is known

	standing        standing
	place           int           // position of its folder in the search
	found, expected shared.Digest // of a broken one whose digests differ
}

// Development tells whether this is the engine of [DevVariable], about which
// nothing is known.
func (c Candidate) Development() bool { return c.Source == DevVariable }

// platform is its key in plugins.lock.
func (c Candidate) platform() string { return c.OS + "_" + c.Arch }

// bar keeps a candidate out of the choice.
func (c *Candidate) bar(as standing, why string) { c.standing, c.Why, c.Fix = as, why, "" }

// fail makes a candidate one that breaks commands if it wins.
func (c *Candidate) fail(why, fix string) { c.standing, c.Why, c.Fix = broken, why, fix }

// refusal is the error of commands that would have to use a candidate that cannot
// be used.
func (c Candidate) refusal() *shared.Error {
	reason := shared.ReasonEngineInvalid
	if c.standing == unspoken || c.standing == unknown {
		reason = shared.ReasonEngineProtocol
	}
	e := shared.NewError(reason, "the engine %s cannot be used: %s", c.Path, c.Why).With("path", c.Path)
	if c.Fix != "" {
		e = e.WithHint("%s", c.Fix)
	}
	if c.expected != "" {
		e = e.With("found", string(c.found)).With("expected", string(c.expected))
	}
	return e
}
