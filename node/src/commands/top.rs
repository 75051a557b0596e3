//! `ocelli top`.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use ocelli_consensus::Network;
use ocelli_protocol::message::{BlockId, FoundBlock, NodeStatus, Request, Response};
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Padding, Paragraph, Sparkline};

use super::chain::describe;
use super::error::{CommandError, Explain as _};
use super::peer_option::PeerOption;
use super::status::duration;
use crate::chain::Bytes;
use crate::client::{Client, printable};

/// How often the node is asked.
const REFRESH: Duration = Duration::from_secs(1);
/// Seconds of the past that are drawn, at the most.
const DRAWN: usize = 300;
/// Tasks that are listed, at the most.
const TASKS: usize = 100;
/// Blocks that are looked through when the command starts.
const BLOCKS: u64 = 10;

/// Watch a node in the terminal: tip, peers, tasks, hash rate, device, mempool; `q` ends it
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    peer: PeerOption,
}

/// What is drawn.
#[derive(Default)]
struct Screen {
    network: String,
    status: NodeStatus,
    /// Tasks in a second, the oldest first; in thousandths.
    tasks: VecDeque<u64>,
    /// Transactions that are pending, the oldest first.
    mempool: VecDeque<u64>,
    /// What confirmed tasks have come to, the latest first: the height, and words.
    latest: VecDeque<(u64, String)>,
    /// The highest block that was looked through.
    seen: u64,
}

/// Runs the command.
///
/// # Errors
/// When there is no terminal, and when the node cannot be asked or does not answer any more.
pub fn run(args: &Args) -> Result<(), CommandError> {
    if !io::stdout().is_terminal() {
        return Err(
            CommandError::usage("standard output is no terminal").with_hint("`ocelli status` prints the same once")
        );
    }
    let mut client = args.peer.connect()?;
    // It puts the terminal back in a panic too.
    let mut terminal = ratatui::try_init().context(|| "cannot draw in this terminal")?;
    let watched = watch(&mut client, &mut terminal);
    ratatui::restore();
    watched
}

fn watch(client: &mut Client, terminal: &mut ratatui::DefaultTerminal) -> Result<(), CommandError> {
    let network = client.network().clone();
    let mut screen = Screen { network: network.parameters.name.clone(), ..Screen::default() };
    loop {
        let asked = Instant::now();
        screen.update(client.node_status()?);
        while let Some(height) = screen.next_block() {
            match client.ask(&Request::Block { by: BlockId::Height(height) })? {
                Response::Block(found) => screen.look_through(height, found.as_deref(), &network),
                _ => screen.seen = height,
            }
        }
        terminal.draw(|frame| screen.draw(frame))?;
        while event::poll(REFRESH.saturating_sub(asked.elapsed()))? {
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Press => {
                    let is_interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                    if is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                        return Ok(());
                    }
                }
                Event::Resize(..) => {
                    terminal.draw(|frame| screen.draw(frame))?;
                }
                _ => {}
            }
        }
    }
}

/// Adds the latest value and forgets what is not drawn any more.
fn push(values: &mut VecDeque<u64>, value: u64) {
    values.push_back(value);
    if values.len() > DRAWN {
        values.pop_front();
    }
}

impl Screen {
    fn update(&mut self, status: NodeStatus) {
        push(&mut self.tasks, status.device.millitasks_per_second);
        push(&mut self.mempool, status.mempool.transactions);
        // What is far back is not shown, nor is what a reorganisation has brought back.
        self.seen = self.seen.clamp(status.tip.height.saturating_sub(BLOCKS), status.tip.height);
        self.status = status;
    }

    /// The next block to look through; `None` when all are.
    fn next_block(&self) -> Option<u64> {
        (self.seen < self.status.tip.height).then_some(self.seen + 1)
    }

    fn look_through(&mut self, height: u64, found: Option<&FoundBlock>, network: &Network) {
        self.seen = height;
        let tasks = found.iter().flat_map(|found| &found.data.body.transactions);
        for (transaction, answer) in tasks.filter(|(_, answer)| answer.classes().is_some()) {
            self.latest.push_front((height, printable(&describe(transaction, answer, network))));
        }
        self.latest.truncate(TASKS);
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let [head, middle, tasks, foot] =
            Layout::vertical([Constraint::Length(5), Constraint::Length(7), Constraint::Min(3), Constraint::Length(1)])
                .areas(frame.area());
        self.draw_head(frame, head);
        let [left, right] = Layout::horizontal([Constraint::Fill(1); 2]).areas(middle);
        let status = &self.status;
        let title = format!("tasks a second: {:.1}", status.device.millitasks_per_second as f64 / 1000.0);
        draw_line(frame, left, &title, &self.tasks, Color::Cyan);
        let title =
            format!("mempool: {}, {}", count(status.mempool.transactions, "transaction"), Bytes(status.mempool.bytes));
        draw_line(frame, right, &title, &self.mempool, Color::Magenta);
        let lines: Vec<Line<'_>> = self
            .latest
            .iter()
            .take(tasks.height.into())
            .map(|(height, words)| Line::from(vec![Span::raw(format!("block {height:>8}  ")).dim(), Span::raw(words)]))
            .collect();
        frame.render_widget(Paragraph::new(lines).block(panel("latest tasks")), tasks);
        frame.render_widget(Paragraph::new("q ends this; all is the node's own word").dim(), foot);
    }

    fn draw_head(&self, frame: &mut Frame<'_>, area: ratatui::layout::Rect) {
        let status = &self.status;
        let sync = printable(&status.sync.state);
        let is_well = sync == "synced" && status.sync.waiting_for.is_empty() && !status.device.disabled;
        let state = if is_well { sync.green() } else { sync.yellow() };
        let tip: String = status.tip.hash.to_string().chars().take(16).collect();
        let device = if status.device.disabled {
            format!("{}; THE DEVICE GAVE A WRONG ANSWER and is no longer used", printable(&status.device.name)).red()
        } else {
            Span::raw(printable(&status.device.name))
        };
        let mining = match status.mining.address {
            Some(_) => format!("{} a second", count(status.mining.hash_rate, "hash")),
            None => "no".into(),
        };
        let lines = vec![
            Line::from(vec![
                Span::raw(format!("block {}  {tip}…  ", status.tip.height)).bold(),
                state,
                Span::raw(format!("   up {}", duration(status.uptime_seconds))),
            ]),
            Line::from(format!(
                "peers {}, {} of them dialled this node   mining {mining}   disk {}",
                status.peers.total(),
                status.peers.inbound,
                Bytes(status.storage.disk_bytes)
            )),
            Line::from(vec![
                Span::raw("device "),
                device,
                Span::raw(format!(", {} wait", count(status.inference.queued, "picture"))),
            ]),
        ];
        let title = format!("ocelli {}", printable(&self.network));
        frame.render_widget(Paragraph::new(lines).block(panel(&title)), area);
    }
}

/// `1 transaction`, `2 transactions`, `2 hashes`.
fn count(number: u64, what: &str) -> String {
    let ending = match number {
        1 => "",
        _ if what.ends_with("sh") => "es",
        _ => "s",
    };
    format!("{number} {what}{ending}")
}

fn panel(title: &str) -> Block<'static> {
    Block::bordered()
        .border_style(Style::new().dim())
        .title(Span::styled(format!(" {title} "), Style::new().add_modifier(Modifier::BOLD)))
        .padding(Padding::horizontal(1))
}

/// The latest values, as many as there is room for.
fn draw_line(frame: &mut Frame<'_>, area: ratatui::layout::Rect, title: &str, values: &VecDeque<u64>, colour: Color) {
    let block = panel(title);
    let room = usize::from(block.inner(area).width);
    let shown = values.iter().skip(values.len().saturating_sub(room)).copied();
    let line = Sparkline::default().data(shown.collect::<Vec<_>>()).style(Style::new().fg(colour)).block(block);
    frame.render_widget(line, area);
}

#[cfg(test)]
mod tests {
    use ocelli_protocol::message::{DeviceStatus, PeerCounts, TipStatus};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn drawn(screen: &Screen, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    /// How a node at a height is.
    fn at(height: u64) -> NodeStatus {
        NodeStatus { tip: TipStatus { height, ..TipStatus::default() }, ..NodeStatus::default() }
    }

    #[test]
    fn a_screen_shows_how_the_node_is() {
        let mut screen = Screen { network: "testnet".into(), ..Screen::default() };
        let mut status = at(7);
        status.sync.state = "synced".into();
        status.device = DeviceStatus { name: "CPU (AVX2)".into(), millitasks_per_second: 12_345, disabled: false };
        status.peers = PeerCounts { dialled: 1, inbound: 2 };
        status.mempool.transactions = 1;
        screen.update(status.clone());
        screen.latest.push_front((7, "cat, 82.6 % by cifar10-cnn".into()));
        let text = drawn(&screen, 100, 24);
        for words in [
            "ocelli testnet",
            "block 7",
            "synced",
            "peers 3, 2 of them dialled this node",
            "mining no",
            "device CPU (AVX2), 0 pictures wait",
            "tasks a second: 12.3",
            "mempool: 1 transaction,",
            "block        7  cat, 82.6 % by cifar10-cnn",
        ] {
            assert!(text.contains(words), "{words}\n{text}");
        }
        status.device.disabled = true;
        screen.update(status);
        assert!(drawn(&screen, 100, 24).contains("THE DEVICE GAVE A WRONG ANSWER"));
        // No terminal is too small.
        for (width, height) in [(1, 1), (20, 5), (300, 2)] {
            drawn(&screen, width, height);
        }
    }

    #[test]
    fn blocks_are_looked_through_once_and_not_those_of_long_ago() {
        let mut screen = Screen::default();
        assert_eq!(screen.next_block(), None);
        screen.update(at(100));
        assert_eq!(screen.next_block(), Some(91));
        let network = Network::builtin("local").unwrap();
        while let Some(height) = screen.next_block() {
            screen.look_through(height, None, &network);
        }
        screen.update(at(101));
        assert_eq!(screen.next_block(), Some(101));
        // The chain became shorter, in blocks.
        screen.update(at(99));
        assert_eq!(screen.next_block(), None);
        for _ in 0..2 * DRAWN {
            screen.update(NodeStatus::default());
        }
        assert_eq!(screen.tasks.len(), DRAWN);
    }
}
