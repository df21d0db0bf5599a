// Package registertest holds the conformance suite of register.Register, in test files only. Every implementation runs it
// here, so that what is built and tested on one of them holds on the other.
package registertest
