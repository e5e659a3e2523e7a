package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"ggen.dev/marketplace/host/project"
	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

// agreed installs after the user has seen what is going to be done, and in a terminal
// has agreed to it. The rules of trust come from the settings.
func (v *invocation) agreed(ctx context.Context, s session, req shared.InstallRequest) (shared.InstallReceipt, error) {
	rules, err := v.rules()
	if err != nil {
		return shared.InstallReceipt{}, err
	}
	req.Policy, req.MinAge, req.MaxFiles, req.MaxBytes = rules.Policy, rules.MinAge, rules.MaxFiles, rules.MaxSize
	ask := v.stdinTerminal && v.stderrTerminal && !v.JSON && !v.flags.Bool("yes")
	if req.DryRun || !ask && (v.JSON || v.Quiet) {
		return v.watched(ctx, s, req)
	}
	dry := req
	dry.DryRun = true
	receipt, err := v.watched(ctx, s, dry)
	if err != nil {
		return receipt, err
	}
	v.Remarks(receipt.Diagnostics)
	plan := render.NewInstallPlan(receipt, req.Root)
	v.Aside(plan)
	if ask && !plan.Empty() {
		safe := len(receipt.Diagnostics) == 0 && (req.Trust || !slices.ContainsFunc(receipt.Packages, func(p shared.InstalledPackage) bool { return p.FirstUse }))
		if err := v.ask(ctx, safe); err != nil {
			return shared.InstallReceipt{}, err
		}
		for _, pkg := range receipt.Packages {
			req.Accepted = append(req.Accepted, pkg.LockedPackage)
		}
	}
	said := receipt.Diagnostics
	receipt, err = v.watched(ctx, s, req)
	// What was said before is not said again.
	receipt.Diagnostics = slices.DeleteFunc(receipt.Diagnostics, func(d shared.Diagnostic) bool { return slices.Contains(said, d) })
	return receipt, err
}

// watched is an install with its progress on the terminal. If several publishers
// offer a package, it shows them.
func (v *invocation) watched(ctx context.Context, s session, req shared.InstallRequest) (shared.InstallReceipt, error) {
	progress := v.NewProgress()
	defer progress.Close()
	receipt, err := s.Install(ctx, req, progress.Report)
	progress.Close()
	v.showCandidates(ctx, s, err)
	return receipt, err
}

// rules are the strictest of all settings; a flag of this command goes before them.
func (v *invocation) rules() (project.Rules, error) {
	sources, err := v.sources(project.Given{}, "")
	if err != nil {
		return project.Rules{}, err
	}
	rules := project.MergeRules(sources...)
	if v.flags.IsSet("min-age") {
		if rules.MinAge, err = project.ParseAge(v.flags.String("min-age")); err != nil {
			return rules, err
		}
	}
	return rules, nil
}

// ask waits for a yes or no; empty is what is safe to do.
func (v *invocation) ask(ctx context.Context, safe bool) error {
	choice := "[y/N]"
	if safe {
		choice = "[Y/n]"
	}
	if _, err := fmt.Fprintf(v.Err, "Install? %s ", choice); err != nil {
		return err
	}
	answered := make(chan string, 1)
	go func() { // ends with the process, if nobody ever answers
		line, err := bufio.NewReader(io.LimitReader(v.stdin, 1<<10)).ReadString('\n')
		if err != nil && line == "" {
			line = "no"
		}
		answered <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case answer := <-answered:
		if answer == "y" || answer == "yes" || answer == "" && safe {
			return nil
		}
		return shared.NewError(shared.ReasonUntrusted, "you did not agree; nothing was installed")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// showCandidates shows who offers a package, if an error says that there are several.
func (v *invocation) showCandidates(ctx context.Context, s session, err error) {
	var typed *shared.Error
	if v.JSON || !errors.Is(err, shared.ReasonAmbiguous) || !errors.As(err, &typed) || typed.Metadata["name"] == "" {
		return
	}
	if report, err := s.Explain(ctx, typed.Metadata["name"]); err == nil {
		v.Aside(render.NewTrustReport(report))
	}
}
