package doctor

// What the kernel and a disk say cannot be made to vary in a test.
var (
	Synchronised    = synchronised
	JudgeFileSystem = judgeFileSystem
	JudgeHandler    = handlerFindings
	JudgeRoom       = judgeRoom
)
