package callback_test

import (
	"encoding/json"
	"testing"
	"time"

	"callbackd/internal/callback"
)

func TestTime(t *testing.T) {
	t.Parallel()
	utc := func(year, month, day, hour, minute, second, nano int) time.Time {
		return time.Date(year, time.Month(month), day, hour, minute, second, nano, time.UTC)
	}
	for text, want := range map[string]struct {
		at    time.Time
		zoned bool
		iso   string
	}{
		"2026-11-24T07:00:00Z":              {utc(2026, 11, 24, 7, 0, 0, 0), true, "2026-11-24T07:00:00Z"},
		"2026-11-24T07:00:00.1234567-05:00": {utc(2026, 11, 24, 12, 0, 0, 123456700), true, "2026-11-24T07:00:00.1234567-05:00"},
		"2026-11-24T07:00:00+0530":          {utc(2026, 11, 24, 1, 30, 0, 0), true, "2026-11-24T07:00:00+05:30"},
		"2026-11-24 07:00:00Z":              {utc(2026, 11, 24, 7, 0, 0, 0), true, "2026-11-24T07:00:00Z"},
		"2026-11-24T07:00:00":               {utc(2026, 11, 24, 7, 0, 0, 0), false, "2026-11-24T07:00:00"},
		"2026-11-24T07:00:00.5":             {utc(2026, 11, 24, 7, 0, 0, 500000000), false, "2026-11-24T07:00:00.5"},
		"2026-11-24 07:00:00":               {utc(2026, 11, 24, 7, 0, 0, 0), false, "2026-11-24T07:00:00"},
		"2026-11-24T07:00":                  {utc(2026, 11, 24, 7, 0, 0, 0), false, "2026-11-24T07:00:00"},
		"2026-11-24":                        {utc(2026, 11, 24, 0, 0, 0, 0), false, "2026-11-24T00:00:00"},
		"3/15/2017 12:00:00 AM":             {utc(2017, 3, 15, 0, 0, 0, 0), false, "2017-03-15T00:00:00"},
		"3/5/2017 1:02:03 PM":               {utc(2017, 3, 5, 13, 2, 3, 0), false, "2017-03-05T13:02:03"},
		"3/5/2017 1:02:03\u202fPM":          {utc(2017, 3, 5, 13, 2, 3, 0), false, "2017-03-05T13:02:03"},
		"12/31/2026 11:59 PM":               {utc(2026, 12, 31, 23, 59, 0, 0), false, "2026-12-31T23:59:00"},
		"3/15/2017 13:02:03":                {utc(2017, 3, 15, 13, 2, 3, 0), false, "2017-03-15T13:02:03"},
		"3/15/2017":                         {utc(2017, 3, 15, 0, 0, 0, 0), false, "2017-03-15T00:00:00"},
		" 2026-11-24\n":                     {utc(2026, 11, 24, 0, 0, 0, 0), false, "2026-11-24T00:00:00"},
		"2024-02-29":                        {utc(2024, 2, 29, 0, 0, 0, 0), false, "2024-02-29T00:00:00"},
	} {
		v := callback.Time{Text: text}
		at, zoned, ok := v.Parse()
		if !ok || !at.Equal(want.at) || zoned != want.zoned || v.ISO() != want.iso {
			t.Errorf("%q is %v, zoned %v, %v, %q; want %+v", text, at, zoned, ok, v.ISO(), want)
		}
	}
	for _, text := range []string{"", " ", "soon", "15/3/2017", "2023-02-29", "2026-13-01", "1700000000", "2026-11-24T25:00:00"} {
		v := callback.Time{Text: text}
		if at, _, ok := v.Parse(); ok || !at.IsZero() || v.ISO() != "" {
			t.Errorf("%q is read as %v", text, at)
		}
	}
}

func TestTimeJSON(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                      `{"text":""}`,
		"soon":                  `{"text":"soon"}`,
		"3/15/2017 12:00:00 AM": `{"text":"3/15/2017 12:00:00 AM","iso":"2017-03-15T00:00:00"}`,
		"2026-11-24T07:00:00Z":  `{"text":"2026-11-24T07:00:00Z","iso":"2026-11-24T07:00:00Z"}`,
	} {
		got, err := json.Marshal(callback.Time{Text: text})
		if err != nil || string(got) != want {
			t.Errorf("%q is written as %s, %v; want %s", text, got, err, want)
		}
		var back callback.Time
		if err := json.Unmarshal(got, &back); err != nil || back.Text != text {
			t.Errorf("%s is read as %q, %v", got, back.Text, err)
		}
	}
	var bad callback.Time
	if err := json.Unmarshal([]byte(`"2026"`), &bad); err == nil {
		t.Error("a bare text is taken for a time")
	}
	if !(callback.Time{}).IsZero() || (callback.Time{Text: "soon"}).IsZero() {
		t.Error("IsZero does not tell whether there is a text")
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for text, want := range map[callback.Number]struct {
		whole   int64
		isWhole bool
		float   float64
		isFloat bool
	}{
		"1048576":               {1048576, true, 1048576, true},
		" -7\n":                 {-7, true, -7, true},
		"9223372036854775807":   {9223372036854775807, true, 9223372036854775807, true},
		"9223372036854775808":   {0, false, 9223372036854775808, true},
		"1.5":                   {0, false, 1.5, true},
		"1e3":                   {0, false, 1000, true},
		"":                      {},
		"many":                  {},
		"1,024":                 {},
		"0x10":                  {},
		"1_000":                 {},
		"Infinity":              {},
		"1_000e0":               {},
		"NaN":                   {},
		"99999999999999999e999": {},
	} {
		whole, isWhole := text.Int64()
		float, isFloat := text.Float64()
		if isWhole != want.isWhole || isWhole && whole != want.whole || isFloat != want.isFloat || isFloat && float != want.float {
			t.Errorf("%q is %d, %v and %g, %v; want %+v", text, whole, isWhole, float, isFloat, want)
		}
	}
}

func TestResumesAt(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Device will be auto resumed on - 3/15/2017 12:00:00 AM":   "2017-03-15T00:00:00",
		"\n Device will be auto resumed on - 2026-11-24T07:00:00Z": "2026-11-24T07:00:00Z",
		"Device will be auto resumed on - soon":                    "",
		"Device will be resumed on - 3/15/2017 12:00:00 AM":        "",
		"3/15/2017 12:00:00 AM":                                    "",
		"":                                                         "",
	} {
		at, ok := callback.Comment{Text: text}.ResumesAt()
		if ok != (want != "") || ok && at.ISO() != want {
			t.Errorf("%q resumes at %q, %v; want %q", text, at.ISO(), ok, want)
		}
	}
}

// What a handler outside of this program cannot compute stands beside the comment.
func TestCommentJSON(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"all is well": `{"text":"all is well"}`,
		"Device will be auto resumed on - 3/15/2017 12:00:00 AM": `{"text":"Device will be auto resumed on - 3/15/2017 12:00:00 AM",` +
			`"resumesAt":{"text":"3/15/2017 12:00:00 AM","iso":"2017-03-15T00:00:00"}}`,
	} {
		got, err := json.Marshal(callback.Comment{Text: text})
		if err != nil || string(got) != want {
			t.Errorf("%q is written as %s, %v; want %s", text, got, err, want)
		}
		var back callback.Comment
		if err := json.Unmarshal(got, &back); err != nil || back.Text != text {
			t.Errorf("%s is read as %q, %v", got, back.Text, err)
		}
	}
}

func TestFaultCondition(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"UnifiedWebService.REQUEST_FAILED.AccountNotFound":            "REQUEST_FAILED.AccountNotFound",
		"CarrierService.REQUEST_FAILED.AccountNotFound":               "REQUEST_FAILED.AccountNotFound",
		"DeviceService.INPUT_INVALID.CustomField.InvalidName":         "INPUT_INVALID.CustomField.InvalidName",
		"INPUT_INVALID.CustomField.InvalidName":                       "INPUT_INVALID.CustomField.InvalidName",
		"REQUEST_ONHOLD.Something":                                    "REQUEST_ONHOLD.Something",
		"REQUEST_CANCELLED.Something":                                 "REQUEST_CANCELLED.Something",
		"DeserializationFailed":                                       "DeserializationFailed",
		"EnhancedConnectivityService.REQUEST_FAILED.M2M_1GB.NotFound": "REQUEST_FAILED.M2M_1GB.NotFound",
		"": "",
	} {
		if got := (callback.Fault{Code: code}).Condition(); got != want {
			t.Errorf("the condition of %q is %q, want %q", code, got, want)
		}
	}
}
