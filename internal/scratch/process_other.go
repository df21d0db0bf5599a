//go:build !linux

package scratch

import "syscall"

// dieWithParent does nothing where the kernel offers no such thing; there a killed test run leaves its servers behind.
func dieWithParent(*syscall.SysProcAttr) {}

// awaitPause trusts that the signal works at once, which is nearly true.
func awaitPause(int) error { return nil }
