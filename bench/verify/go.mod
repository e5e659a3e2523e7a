// Not a part of the program: what is compared with it here is nothing that it needs.
module ggen.dev/marketplace/bench/verify

go 1.26

require lukechampine.com/blake3 v1.4.1

require github.com/klauspost/cpuid/v2 v2.0.9 // indirect
