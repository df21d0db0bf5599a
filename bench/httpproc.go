package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// The names of CPU times that are always measured.
const (
	cpuLoad    = "load"
	cpuMachine = "machine" // everything that runs
)

// tick is the unit of CPU time in /proc (USER_HZ); the kernel never shows another to programs.
const tick = 10 * time.Millisecond

// cpuBetween returns the CPU time that the processes, this one and the whole machine use from begin to end. What the system
// does not tell is left out.
func cpuBetween(ctx context.Context, begin, end time.Time, processes map[string]int) map[string]time.Duration {
	sleepUntil(ctx, begin)
	first := cpuTimes(processes)
	sleepUntil(ctx, end)
	used := cpuTimes(processes)
	for name := range used {
		used[name] -= first[name]
	}
	return used
}

func sleepUntil(ctx context.Context, at time.Time) {
	select {
	case <-time.After(time.Until(at)):
	case <-ctx.Done():
	}
}

func cpuTimes(processes map[string]int) map[string]time.Duration {
	times := map[string]time.Duration{}
	for name, pid := range processes {
		if used, err := cpuOf(strconv.Itoa(pid)); err == nil {
			times[name] = used
		}
	}
	if used, err := cpuOf("self"); err == nil {
		times[cpuLoad] = used
	}
	if used, err := cpuOfMachine(); err == nil {
		times[cpuMachine] = used
	}
	return times
}

// cpuOf reads utime and stime, fields 14 and 15, of a process. The second field, its name, may have spaces and ends with the
// last bracket.
func cpuOf(pid string) (time.Duration, error) {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0, err
	}
	return sumTicks(strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])), 11, 12)
}

// cpuOfMachine sums up what /proc/stat says of all cores, without idle and iowait.
func cpuOfMachine() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return sumTicks(strings.Fields(line), 1, 2, 3, 6, 7, 8)
}

func sumTicks(fields []string, which ...int) (time.Duration, error) {
	var sum time.Duration
	for _, i := range which {
		if i >= len(fields) {
			return 0, fmt.Errorf("%d fields of CPU times; want more than %d", len(fields), i)
		}
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// residentSize is the memory that a process has in RAM.
func residentSize(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kilobytes, err := numberAfter(strings.TrimLeft(rest, " \t"), "")
	return kilobytes << 10, err
}
