package doctor

// What the kernel says cannot be made to vary in a test.
var (
	Synchronised    = synchronised
	JudgeFileSystem = judgeFileSystem
	JudgeHandler    = handlerFindings
)
