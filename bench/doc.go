// Package bench measures what docs/performance.md states. Every comparison is made in one run on one machine, because the
// machine is noisy: trust the ratios, not the absolute numbers.
package bench
