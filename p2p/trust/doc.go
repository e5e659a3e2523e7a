// Package trust says whom a bare name means, apart from pins: what signed
// catalogues of names say ([Catalogue], [Shelf]), and which names are so like a
// well-known one that somebody may be fooled ([Alike]).
//
// Pins, and the log of each publisher, are package catalog's; signatures are package
// publisher's. What follows from all of it is decided by the engine.
package trust
