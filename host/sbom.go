package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/urfave/cli/v2"

	"ggen.dev/marketplace/host/project"
	"ggen.dev/marketplace/host/render"
	"ggen.dev/marketplace/shared"
)

func (p *program) sbomCommand() *cli.Command {
	return p.leaf(&cli.Command{
		Name: "sbom", Usage: "write a bill of materials of what ggen.lock lists", ArgsUsage: "[FILE]",
		Description: `FILE (default: ggen.cdx.json beside ggen.lock) is CycloneDX 1.6 in JSON: names,
versions, publishers, digests, licences and who depends on whom. The same ggen.lock
gives the same file.`,
	}, arity{0, 1}, sbom)
}

func sbom(ctx context.Context, v *invocation) error {
	lock, err := v.place.ReadLockfile()
	if err != nil {
		return err
	}
	if len(lock.Packages) == 0 {
		return usage("%s lists no packages", v.place.Lockfile())
	}
	file := v.absolute(v.place.Root() + "/ggen.cdx.json")
	if len(v.args) > 0 {
		file = v.absolute(v.args[0])
	}
	return v.withEngine(ctx, func(s session) error {
		licenses := map[string]string{}
		for _, pkg := range lock.Packages {
			details, err := s.Describe(ctx, shared.Ref{Publisher: pkg.Publisher, Name: pkg.Name, Constraint: "=" + pkg.Version})
			switch {
			case err == nil:
				licenses[pkg.Name] = details.License
			case errors.Is(err, shared.ReasonNotFound), errors.Is(err, shared.ReasonNoPeers):
				v.Warn("the licence of %s %s is not known here", pkg.Name, pkg.Version)
			default:
				return err
			}
		}
		data, err := billOf(lock.Packages, licenses)
		if err != nil {
			return err
		}
		if err := project.WriteFile(file, data); err != nil {
			return err
		}
		return v.Print(render.SBOM{File: file, Format: "CycloneDX 1.6", Components: len(lock.Packages)})
	})
}

// billOf is the document. It has no time and no random number: the lock's content
// names it.
func billOf(packages []shared.LockedPackage, licenses map[string]string) ([]byte, error) {
	bom := cdx.NewBOM()
	var components []cdx.Component
	var dependencies []cdx.Dependency
	refs := map[string]string{}
	var identity bytes.Buffer
	for _, pkg := range packages {
		refs[pkg.Name] = purl(pkg)
		fmt.Fprintf(&identity, "%s %s\n", purl(pkg), pkg.Digest)
	}
	for _, pkg := range packages {
		c := cdx.Component{
			BOMRef: refs[pkg.Name], Type: cdx.ComponentTypeLibrary, Name: pkg.Name, Version: pkg.Version, PackageURL: refs[pkg.Name],
			Publisher: string(pkg.Publisher), Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: pkg.Digest.Hex()}},
		}
		if license := licenses[pkg.Name]; license != "" {
			c.Licenses = &cdx.Licenses{{License: &cdx.License{Name: license}}}
		}
		components = append(components, c)
		needs := []string{}
		for _, name := range pkg.Dependencies {
			if ref, ok := refs[name]; ok {
				needs = append(needs, ref)
			}
		}
		dependencies = append(dependencies, cdx.Dependency{Ref: refs[pkg.Name], Dependencies: &needs})
	}
	bom.Components, bom.Dependencies = &components, &dependencies
	sum := shared.DigestOf(identity.Bytes()).Hex()
	// The form of a UUID version 8 (RFC 9562): made of a hash.
	bom.SerialNumber = fmt.Sprintf("urn:uuid:%s-%s-8%s-8%s-%s", sum[:8], sum[8:12], sum[13:16], sum[17:20], sum[20:32])
	var buf bytes.Buffer
	err := cdx.NewBOMEncoder(&buf, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cdx.SpecVersion1_6)
	return buf.Bytes(), err
}

// purl names a package for other tools (the package URL specification has no type for
// ours, so it is a generic one).
func purl(pkg shared.LockedPackage) string {
	return fmt.Sprintf("pkg:generic/ggen/%s/%s@%s", pkg.Publisher, url.PathEscape(pkg.Name), url.PathEscape(pkg.Version))
}
