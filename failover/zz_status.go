package failover

type Status struct {
	StartID                       string
	ServerID                      uint32
	ReadOnly                      bool
	Executed, Applied, Received   GTID
	IORunning                     string
	SQLRunning                    bool
	IOErrno, SQLErrno             int
	IOError, SQLError, SourceAddr string
	ReceivedMark                  string
	MasterEnabled, MasterOn       bool
	SlaveEnabled, SlaveOn         bool
	Clients, WaitSessions         int
	YesTx, NoTx                   uint64
	TimeoutMS                     uint64
	WaitPoint                     string
	Epoch                         uint64
	PrimaryID                     uint32
}

type Fenced struct {
	StartID                     string
	ServerID                    uint32
	Received, Applied, Executed GTID
	IOStopped, SQLRunning       bool
	SQLErrno                    int
	SQLError                    string
	ReadOnly                    bool
}
