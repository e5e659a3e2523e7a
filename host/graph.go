package main

import (
	"slices"

	"ggen.dev/marketplace/host/project"
	"ggen.dev/marketplace/host/render"
)

// graph is what is installed, and what needs what.
type graph struct {
	packages  map[string]project.Installed
	requested []string // by name
}

func newGraph(installed []project.Installed) graph {
	g := graph{packages: map[string]project.Installed{}}
	for _, pkg := range installed {
		g.packages[pkg.Name] = pkg
		if pkg.Requested {
			g.requested = append(g.requested, pkg.Name)
		}
	}
	slices.Sort(g.requested)
	return g
}

// node is the tree below a package. What was shown before is cut, which ends cycles
// too.
func (g graph) node(name string, shown map[string]bool) render.TreeNode {
	pkg := g.packages[name]
	n := render.TreeNode{Name: name, Version: pkg.Version, Missing: pkg.Name == ""}
	if shown[name] {
		n.Repeated = len(pkg.Dependencies) > 0
		return n
	}
	shown[name] = true
	for _, dep := range slices.Sorted(slices.Values(pkg.Dependencies)) {
		n.Dependencies = append(n.Dependencies, g.node(dep, shown))
	}
	return n
}

// paths adds the ways from a package to target that pass none twice. Packages that do
// not lead there are not entered.
func (g graph) paths(from, target string, way []string, found *[][]string) {
	for _, dep := range slices.Sorted(slices.Values(g.packages[from].Dependencies)) {
		switch {
		case len(*found) >= maxPaths:
			return
		case dep == target:
			*found = append(*found, append(slices.Clone(way), dep))
		case !slices.Contains(way, dep) && g.leads(dep, target, map[string]bool{}):
			g.paths(dep, target, append(slices.Clone(way), dep), found)
		}
	}
}

func (g graph) leads(from, target string, seen map[string]bool) bool {
	if seen[from] {
		return false
	}
	seen[from] = true
	return slices.ContainsFunc(g.packages[from].Dependencies, func(dep string) bool { return dep == target || g.leads(dep, target, seen) })
}
