// Package scratch lends what a throw-away server needs from the machine, and gives it back even if the borrower is
// killed: a folder, a loopback port and a process. Tests, benchmarks and the one-machine cluster start real database
// servers, and a killed test run must leave neither servers nor gigabytes behind.
//
//   - A Process dies with the program that started it (on Linux; elsewhere only by Kill or Stop).
//   - A Folder is removed by Remove, or by a small shell that outlives the program and waits for its end, or, should
//     that be killed as well, by the next program that asks for a folder.
//   - A Port lies below the range the kernel gives to outgoing connections. With a port out of that range a client
//     that keeps redialling a dead server ends up connected to itself, and the server cannot come back.
//
// Ownership is an flock on a file: the kernel drops it with its holder, however that dies, and no PID is ever compared.
package scratch
