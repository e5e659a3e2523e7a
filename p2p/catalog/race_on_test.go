//go:build race

package catalog_test

// raceBuild tells whether the race detector is on, which makes hashing ten times slower.
const raceBuild = true
