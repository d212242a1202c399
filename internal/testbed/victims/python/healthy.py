"""Nothing wrong: the application of the healthy servers."""
import held

app = held.application(lambda: None)
