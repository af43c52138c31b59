package callback

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Number is a number as text: no document says which form the platform writes.
type Number string

// Int64 reads the number as a whole one.
func (n Number) Int64() (int64, bool) {
	v, err := strconv.ParseInt(strings.TrimSpace(string(n)), 10, 64)
	return v, err == nil
}

// Float64 reads the number, in decimal notation alone.
func (n Number) Float64() (float64, bool) {
	text := strings.TrimSpace(string(n))
	if strings.Trim(text, "+-.0123456789eE") != "" {
		return 0, false // infinity and the like
	}
	v, err := strconv.ParseFloat(text, 64)
	return v, err == nil
}

// Time is a point in time as the platform wrote it. The platform's .NET dates have no zone, and none is invented.
type Time struct{ Text string }

// The layouts that [Time.Parse] tries: ISO 8601 as .NET and Java write it, and the en-US text of a .NET DateTime.
var (
	zonedLayouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006-01-02 15:04:05Z07:00"}
	localLayouts = []string{
		"2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04", "2006-01-02",
		"1/2/2006 3:04:05 PM", "1/2/2006 3:04 PM", "1/2/2006 15:04:05", "1/2/2006",
	}
)

// Parse reads the text. Where it names no zone, zoned is false and t is in UTC only because a time.Time must be somewhere.
func (t Time) Parse() (at time.Time, zoned, ok bool) {
	// Newer .NET puts a no-break space before AM and PM.
	text := strings.NewReplacer("\u00a0", " ", "\u202f", " ").Replace(strings.TrimSpace(t.Text))
	for _, layout := range zonedLayouts {
		if at, err := time.Parse(layout, text); err == nil {
			return at, true, true
		}
	}
	for _, layout := range localLayouts {
		if at, err := time.Parse(layout, text); err == nil {
			return at, false, true
		}
	}
	return time.Time{}, false, false
}

// ISO is the time in RFC 3339 where the text names a zone, in ISO 8601 without one where it does not, and empty where it
// cannot be read.
func (t Time) ISO() string {
	at, zoned, ok := t.Parse()
	switch {
	case !ok:
		return ""
	case zoned:
		return at.Format(time.RFC3339Nano)
	}
	return at.Format("2006-01-02T15:04:05.999999999")
}

// IsZero reports whether there is no time.
func (t Time) IsZero() bool { return t.Text == "" }

// MarshalJSON writes {"text": as given, "iso": [Time.ISO]}, the latter only where the text can be read.
func (t Time) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Text string `json:"text"`
		ISO  string `json:"iso,omitempty"`
	}{t.Text, t.ISO()})
}

// UnmarshalJSON reads what [Time.MarshalJSON] writes.
func (t *Time) UnmarshalJSON(b []byte) error {
	var v struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	t.Text = v.Text
	return nil
}

// resumePrefix begins the comment of a ResumeTrackingNotification.
const resumePrefix = "Device will be auto resumed on - "

// ResumesAt is the time that the comment of a ResumeTrackingNotification names.
func (c Comment) ResumesAt() (Time, bool) {
	text, found := strings.CutPrefix(strings.TrimSpace(c.Text), resumePrefix)
	t := Time{strings.TrimSpace(text)}
	if _, _, ok := t.Parse(); !found || !ok {
		return Time{}, false
	}
	return t, true
}

// MarshalJSON writes {"text": as given, "resumesAt": [Comment.ResumesAt]}, the latter only where the comment names such a time.
func (c Comment) MarshalJSON() ([]byte, error) {
	at, _ := c.ResumesAt()
	return json.Marshal(struct {
		Text      string `json:"text"`
		ResumesAt Time   `json:"resumesAt,omitzero"`
	}{c.Text, at})
}

// Condition is the code without the name of the service that raised it: the part that means the same on every service.
func (f Fault) Condition() string {
	service, condition, found := strings.Cut(f.Code, ".")
	if !found || service == "INPUT_INVALID" || strings.HasPrefix(service, "REQUEST_") {
		return f.Code
	}
	return condition
}
