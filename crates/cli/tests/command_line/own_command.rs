//! A program's own command: its options beside the global ones, its log, its end.

use rustix::process::Signal;

use crate::process::Start;

#[test]
fn it_logs_as_a_worker_does_and_stops_cleanly_at_the_first_signal() {
    for signal in [Signal::INT, Signal::TERM] {
        let file = "[ticker]\nany = 'thing'\n";
        let ticker = Start::new("ticker", ["tick"])
            .file("celeriac.toml", file)
            .spawn();
        ticker.wait_for("INFO/MainProcess] tick number=1 is_somewhere=false tables=1\n");
        ticker.signal(signal);
        let ended = ticker.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let ticker = Start::new("ticker", ["tick", "--goodbye-ms", "600000"]).spawn();
        ticker.wait_for("tick number=1");
        ticker.signal(signal);
        ticker.wait_for("Stopping; once more to end at once.");
        ticker.signal(signal);
        assert_eq!(ticker.wait().code, Some(code));
    }
}

#[test]
fn its_wrong_options_are_refused_as_celerys_are() {
    let ended = Start::new("ticker", ["tick", "--evry-ms", "1"]).run();
    assert_eq!(
        ended.stderr,
        "Usage: ticker tick [OPTIONS]\nTry 'ticker tick --help' for help.\n\n\
         Error: No such option '--evry-ms'. Did you mean '--every-ms'?\n"
    );
    assert_eq!(ended.code, Some(2));
}
