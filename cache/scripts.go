package cache

import (
	_ "embed"

	"github.com/redis/go-redis/v9"
)

// The scripts; doc.go says what they keep.
var (
	//go:embed scripts/get.lua
	getText string
	//go:embed scripts/fill.lua
	fillText string
	//go:embed scripts/put.lua
	putText string
	//go:embed scripts/intent.lua
	intentText string
	//go:embed scripts/retract.lua
	retractText string

	getScript     = redis.NewScript(getText)
	fillScript    = redis.NewScript(fillText)
	putScript     = redis.NewScript(putText)
	intentScript  = redis.NewScript(intentText)
	retractScript = redis.NewScript(retractText)

	scripts = []*redis.Script{getScript, fillScript, putScript, intentScript, retractScript}
)
