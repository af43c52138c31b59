package platform

import "time"

// Profile is how the platform sends.
type Profile struct {
	Name string
	// OldPassword is how long messages bear the old password after a service was registered anew.
	OldPassword time.Duration
}
