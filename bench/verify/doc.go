// Package verify compares two ways to verify content while it arrives: a list of SHA-256
// digests of chunks, which the archive format has, and Bao, the verified streams of
// BLAKE3 (https://github.com/oconnor663/bao/blob/master/docs/spec.md). It is a module of
// its own, and measures on memory: no network takes part.
package verify
