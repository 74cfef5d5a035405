//! A database of a test's own.

use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, FromRow};
use uuid::Uuid;

use crate::afterwards::afterwards;
use crate::service;

/// A database without tables; it is dropped with the value.
#[derive(Debug)]
pub struct Database {
    server_url: String,
    name: String,
    pool: PgPool,
}

impl Database {
    /// Creates one on the server that `make up` has started.
    ///
    /// # Panics
    /// The server cannot be reached.
    pub async fn create() -> Self {
        Self::create_on(service("DATABASE_URL")).await
    }

    /// Creates one on the server that has the database of this URL.
    ///
    /// # Panics
    /// The server cannot be reached.
    pub async fn create_on(server_url: String) -> Self {
        let name = format!("whole_{}", Uuid::new_v4().simple());
        execute(&server_url, format!("create database {name}"))
            .await
            .expect("PostgreSQL answers and lets the role create databases");
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .connect_lazy(&with_database(&server_url, &name))
            .expect("the URL is right");
        Self {
            server_url,
            name,
            pool,
        }
    }

    /// Where a program finds it.
    pub fn url(&self) -> String {
        with_database(&self.server_url, &self.name)
    }

    /// A session in which these statements were executed; it ends when it is dropped.
    ///
    /// # Panics
    /// They are wrong, or the server is away.
    pub async fn session(&self, sql: &'static str) -> PgConnection {
        let session = PgConnection::connect(&self.url()).await;
        let mut session = session.expect("PostgreSQL answers");
        let executed = sqlx::raw_sql(sql).execute(&mut session).await;
        executed.expect("the statements are right");
        session
    }

    /// The rows of a query.
    ///
    /// # Panics
    /// The query is wrong, or the server is away.
    pub async fn rows<T: for<'r> FromRow<'r, PgRow> + Send + Unpin>(&self, sql: &str) -> Vec<T> {
        sqlx::query_as(AssertSqlSafe(sql))
            .fetch_all(&self.pool)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The one number of a query.
    ///
    /// # Panics
    /// As [`Self::rows`].
    pub async fn number(&self, sql: &str) -> i64 {
        let (number,) = self.rows(sql).await.pop().expect("the query has a row");
        number
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server_url, name) = (self.server_url.clone(), self.name.clone());
        afterwards(async move {
            // A private server is gone already.
            execute(
                &server_url,
                format!("drop database if exists {name} with (force)"),
            )
            .await
            .ok();
        });
    }
}

async fn execute(url: &str, sql: String) -> Result<(), sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(1).connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await?;
    pool.close().await;
    Ok(())
}

/// The URLs of the services have no parameters.
fn with_database(url: &str, name: &str) -> String {
    let (server, _) = url.rsplit_once('/').expect("a URL of a database");
    format!("{server}/{name}")
}
